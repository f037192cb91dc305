/* MKL asks this function whether it runs on Intel and takes its AVX2 path for float32 where it does not, 2.3 times slower on AMD's AVX-512.
   Preloaded, PyTorch is as fast here as it can be: the fair rival. Speed tables show both. */
int mkl_serv_intel_cpu_true(void) { return 1; }
