#include "tensorflow.h"

#include <dlfcn.h>

namespace babelrec {
namespace {

TensorFlow functions;

template <typename Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

bool load_tensorflow(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  if (library == nullptr) return false;
  TensorFlow& f = functions;
  return find(library, "TF_NewStatus", f.NewStatus) && find(library, "TF_DeleteStatus", f.DeleteStatus) &&
         find(library, "TF_GetCode", f.GetCode) && find(library, "TF_AllocateTensor", f.AllocateTensor) &&
         find(library, "TF_DeleteTensor", f.DeleteTensor) && find(library, "TF_TensorFromProto", f.TensorFromProto) &&
         find(library, "TF_TensorType", f.TensorType) && find(library, "TF_NumDims", f.NumDims) &&
         find(library, "TF_Dim", f.Dim) && find(library, "TF_TensorData", f.TensorData) &&
         find(library, "TF_StringGetDataPointer", f.StringGetDataPointer) &&
         find(library, "TF_StringGetSize", f.StringGetSize) && find(library, "TF_SessionRun", f.SessionRun) &&
         find(library, "TF_CloseSession", f.CloseSession) && find(library, "TF_DeleteSession", f.DeleteSession) &&
         find(library, "TF_DeleteGraph", f.DeleteGraph) &&
         find(library, "TF_LoadSessionFromSavedModel", f.LoadSessionFromSavedModel);
}

const TensorFlow& tensorflow() { return functions; }

}  // namespace babelrec
