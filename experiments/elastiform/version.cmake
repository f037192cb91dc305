# Writes OUTPUT, the header that says which commit of SOURCE a program is made of; run before every build, so that a file's identity is the
# code's and not that of the last configuration. Beside it kernels_stamp.hpp: a digest of kernels/, by which the program knows whether the
# module with the CUDA backend, which calls the program's kernels library, was built with it. Headers are touched only when they change.
set(commit unknown)
find_package(Git QUIET)
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse --short=12 HEAD WORKING_DIRECTORY ${SOURCE}
                  OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(found)
    set(commit ${found})
    execute_process(COMMAND ${GIT_EXECUTABLE} diff --quiet HEAD WORKING_DIRECTORY ${SOURCE} RESULT_VARIABLE changed)
    if(changed)
      string(APPEND commit "-dirty")
    endif()
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT
"#pragma once

#define ELASTIFORM_VERSION \"${VERSION}\"
#define ELASTIFORM_COMMIT \"${commit}\"
")

file(GLOB_RECURSE sources LIST_DIRECTORIES false ${SOURCE}/kernels/*.hpp ${SOURCE}/kernels/*.cpp ${SOURCE}/kernels/*.cu)
list(SORT sources)
set(digests)
foreach(source ${sources})
  file(SHA256 ${source} digest)
  string(APPEND digests ${digest})
endforeach()
string(SHA256 stamp "${digests}")
string(SUBSTRING ${stamp} 0 16 stamp)
get_filename_component(folder ${OUTPUT} DIRECTORY)
file(CONFIGURE OUTPUT ${folder}/kernels_stamp.hpp CONTENT
"#pragma once

#define ELASTIFORM_KERNELS \"${stamp}\"
")
