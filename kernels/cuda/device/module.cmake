# The CUDA backend as a module that the program loads for --device cuda: nothing else of the program links CUDA or needs it to start.
# Kernels are compiled for sm_80 and sm_90, with PTX for what comes later.
set(ELASTIFORM_CUDA AUTO CACHE STRING "Build the CUDA module: ON, OFF, or AUTO, where nvcc is found")
set_property(CACHE ELASTIFORM_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT ELASTIFORM_CUDA)
  return()
endif()
if(DEFINED ENV{CUDACXX} AND NOT ELASTIFORM_NVCC)  # the path of nvcc, as CMake's own CUDA language takes it
  find_program(ELASTIFORM_NVCC NAMES $ENV{CUDACXX} NO_CACHE)
  if(NOT ELASTIFORM_NVCC)
    message(FATAL_ERROR "elastiform: CUDACXX=$ENV{CUDACXX} is no program; set it to the path of nvcc, or unset it")
  endif()
  set(ELASTIFORM_NVCC ${ELASTIFORM_NVCC} CACHE FILEPATH "nvcc")
endif()
find_program(ELASTIFORM_NVCC nvcc PATHS /usr/local/cuda/bin)
if(NOT ELASTIFORM_NVCC)
  if(NOT ELASTIFORM_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "elastiform: ELASTIFORM_CUDA=${ELASTIFORM_CUDA} needs nvcc; install the CUDA Toolkit or set CUDACXX")
  endif()
  return()
endif()

get_filename_component(cuda_root ${ELASTIFORM_NVCC} REALPATH)
get_filename_component(cuda_root ${cuda_root} DIRECTORY)
get_filename_component(cuda_root ${cuda_root} DIRECTORY)
find_library(ELASTIFORM_CUDART cudart_static HINTS ${cuda_root}/lib64 ${cuda_root}/targets/x86_64-linux/lib)
find_library(ELASTIFORM_CUBLASLT cublasLt HINTS ${cuda_root}/lib64 ${cuda_root}/targets/x86_64-linux/lib)
if(NOT ELASTIFORM_CUDART OR NOT ELASTIFORM_CUBLASLT)
  if(NOT ELASTIFORM_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "elastiform: ELASTIFORM_CUDA=${ELASTIFORM_CUDA} needs cudart_static and cublasLt beside ${ELASTIFORM_NVCC}; "
                        "install them (libcublas-dev of the CUDA Toolkit)")
  endif()
  message(WARNING "elastiform: nvcc without cudart_static and cublasLt beside it: no --device cuda")
  return()
endif()

# CMake 3.25 knows no C++20 for CUDA, so nvcc is called as a plain command; it writes the dependencies itself. -fmad=false: fused multiply-add
# only where it is written, as -ffp-contract=off says on the host, or an aligned and an unaligned path could differ in the last bit.
function(elastiform_nvcc source object)
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${ELASTIFORM_NVCC} -std=c++20 -O3 -fmad=false -DELASTIFORM_GPU=cuda -I${CMAKE_SOURCE_DIR} --Werror all-warnings
            -Xcompiler -Wall,-Wextra,-fPIC,-fvisibility=hidden
            -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]
            -MD -MF ${object}.d -c ${CMAKE_SOURCE_DIR}/${source} -o ${object}
    DEPENDS ${CMAKE_SOURCE_DIR}/${source}
    DEPFILE ${object}.d
    COMMENT "nvcc ${source}" VERBATIM)
endfunction()
set(objects)
foreach(kernel ${cuda_kernels})
  get_filename_component(name ${kernel} NAME_WE)
  elastiform_nvcc(${kernel} ${CMAKE_BINARY_DIR}/cuda/${name}.o)
  list(APPEND objects ${CMAKE_BINARY_DIR}/cuda/${name}.o)
endforeach()

file(GLOB module_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/cuda_backend*.cpp ${CMAKE_SOURCE_DIR}/kernels/cuda/device/*.cpp)
add_library(elastiform_cuda MODULE ${module_sources} ${objects})
add_dependencies(elastiform_cuda elastiform_version)
target_compile_definitions(elastiform_cuda PRIVATE ELASTIFORM_GPU=cuda)
target_include_directories(elastiform_cuda SYSTEM PRIVATE ${cuda_root}/include)
target_link_libraries(elastiform_cuda PRIVATE elastiform_options ${ELASTIFORM_CUBLASLT} ${ELASTIFORM_CUDART} dl rt pthread)
set_target_properties(elastiform_cuda PROPERTIES PREFIX "" POSITION_INDEPENDENT_CODE ON LINKER_LANGUAGE CXX)

# What a program of tests/ needs beside kernels of its own to run on a GPU.
add_library(elastiform_cuda_runtime STATIC EXCLUDE_FROM_ALL kernels/cuda/device/runtime.cpp)
target_compile_definitions(elastiform_cuda_runtime PRIVATE ELASTIFORM_GPU=cuda)
target_include_directories(elastiform_cuda_runtime SYSTEM PRIVATE ${cuda_root}/include)
target_link_libraries(elastiform_cuda_runtime PRIVATE elastiform_options PUBLIC ${ELASTIFORM_CUDART} dl rt pthread)
