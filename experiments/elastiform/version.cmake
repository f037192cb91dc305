# Writes OUTPUT, the header that says which commit of SOURCE a program is made of; run before every build, so that a file's identity is the
# code's and not that of the last configuration. The header is touched only when it changes.
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
