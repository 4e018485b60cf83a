// Reads serialised PredictRequests, writes serialised PredictResponses, and converts their tensors.
//
// Only what common clients send is supported. For everything else `read` returns nullopt, and the request is left to
// the server in Python, which supports all forms and has error messages for invalid ones.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model.h"

namespace babelrec {

// The head of a PredictRequest, and its unparsed inputs. All views are into the request's bytes.
struct RawRequest {
  std::string_view model;
  std::optional<int64_t> version;
  std::string_view signature = "serving_default";
  std::vector<std::pair<std::string_view, std::string_view>> inputs;  // alias, TensorProto
};

// One input of one request.
struct Input {
  std::vector<int64_t> shape;             // at least one axis: rows
  std::vector<std::string_view> strings;  // of a string tensor
  std::string numbers;                    // of any other, in memory layout
};

// nullopt: not supported.
std::optional<RawRequest> read_request(std::string_view bytes);

// The inputs in the order of the signature, all with the same number of rows (at least one); those that the request
// leaves out have their defaults. They hold views into the request and the signature. nullopt: not supported, not what
// the signature declares, or more rows than max_rows.
std::optional<std::vector<Input>> read_inputs(const RawRequest& request, const Signature& signature,
                                              int64_t max_rows);

// Joins one input of several requests along the rows. Other axes that differ in size are padded with zeros or empty
// strings if `pad` allows it. Null when they can't be joined.
Tensor join(const InputSpec& spec, const std::vector<const Input*>& parts, bool pad);

// Whether results have the types that the signature declares.
bool are_as_declared(const Signature& signature, const Tensors& results);

// Whether each result has `rows` rows.
bool have_rows(const Tensors& results, int64_t rows);

struct Rows {
  int64_t begin, end;
};

// A PredictResponse with some rows of the results, or with all of them: then they need not have rows.
std::string write_response(const Signature& signature, const Tensors& results, std::optional<Rows> rows);

}  // namespace babelrec
