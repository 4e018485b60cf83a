// The long calls of a load and of an unload, in a low-priority thread.
//
// It is not a Python thread: a low-priority one that holds the GIL, or is next in line for it, would make everything
// wait until the busy cores schedule it. The caller waits, without the GIL.

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <system_error>
#include <thread>

#include "tensorflow.h"

using namespace babelrec;

namespace {

template <typename Work>
void nicely(int niceness, Work work) {
  std::thread thread;
  try {
    thread = std::thread([&] {
      // Linux sets it per thread. Without permission, the work is done anyway.
      setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), niceness);
      work();
    });
  } catch (const std::system_error&) {  // no more threads can be created
    work();
    return;
  }
  thread.join();
}

}  // namespace

#define API extern "C" __attribute__((visibility("default")))

API void* babelrec_load_session(int niceness, const void* session_options, const TF_Buffer* run_options,
                                const char* path, const char* const* tags, int tag_count, void* graph,
                                TF_Buffer* meta_graph, void* status) {
  void* session = nullptr;
  nicely(niceness, [&] {
    session = tensorflow().LoadSessionFromSavedModel(session_options, run_options, path, tags, tag_count, graph,
                                                     meta_graph, status);
  });
  return session;
}

API void babelrec_run_session(int niceness, void* session, const TF_Buffer* run_options, const TF_Output* inputs,
                              void* const* input_values, int input_count, const TF_Output* outputs,
                              void** output_values, int output_count, const void* const* targets, int target_count,
                              TF_Buffer* metadata, void* status) {
  nicely(niceness, [&] {
    tensorflow().SessionRun(session, run_options, inputs, input_values, input_count, outputs, output_values,
                            output_count, targets, target_count, metadata, status);
  });
}

API void babelrec_delete_session(int niceness, void* session, void* graph, void* status) {
  nicely(niceness, [&] {
    tensorflow().CloseSession(session, status);
    tensorflow().DeleteSession(session, status);
    tensorflow().DeleteGraph(graph);
  });
}
