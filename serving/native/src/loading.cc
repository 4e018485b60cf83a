// The long calls of a load and of an unload, in a thread of low priority.
//
// It is no thread of Python's: one of low priority that holds Python's global lock, or is next to get it, would make
// everybody wait until the busy cores come round to it. The caller waits, without that lock.

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
      // Linux sets it by thread. Without the right to, the work is done all the same.
      setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), niceness);
      work();
    });
  } catch (const std::system_error&) {  // there can be no more threads
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
