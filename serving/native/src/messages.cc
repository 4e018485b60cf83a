#include "messages.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>

namespace babelrec {
namespace {

using protozero::pbf_reader;
using protozero::pbf_wire_type;
using protozero::pbf_writer;

// Padding may make a joined tensor larger than what was sent, but only within limits.
constexpr int64_t kFreeCells = 1 << 16;
constexpr int64_t kMostGrowth = 16;
constexpr size_t kMostInputs = 1024;

std::string_view view(pbf_reader& reader) {
  auto bytes = reader.get_view();
  return {bytes.data(), bytes.size()};
}

size_t size_of(int dtype) {
  switch (dtype) {
    case kFloat:
    case kInt32:
      return 4;
    case kDouble:
    case kInt64:
      return 8;
    case kBool:
      return 1;
    default:
      return 0;
  }
}

template <typename Value>
void append(std::string& numbers, Value value) {
  numbers.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// A field with its wire type: one of another type is not the field.
constexpr uint32_t number(protozero::pbf_tag_type tag) { return protozero::tag_and_type(tag, pbf_wire_type::varint); }
constexpr uint32_t bytes(protozero::pbf_tag_type tag) {
  return protozero::tag_and_type(tag, pbf_wire_type::length_delimited);
}

bool read_shape(pbf_reader shape, std::vector<int64_t>& sizes) {
  while (shape.next()) {
    if (shape.tag_and_type() != bytes(2)) return false;  // of unknown rank
    pbf_reader dimension = shape.get_message();
    int64_t size = 0;
    while (dimension.next()) {
      switch (dimension.tag_and_type()) {
        case number(1):
          size = dimension.get_int64();
          break;
        case bytes(2):  // its name
          dimension.skip();
          break;
        default:
          return false;
      }
    }
    if (size < 0) return false;
    sizes.push_back(size);
  }
  return true;
}

// All current writers pack repeated numbers.
template <typename Value, typename Range>
void append_all(std::string& numbers, const Range& range) {
  for (auto value : range) append(numbers, static_cast<Value>(value));
}

bool read_tensor(std::string_view proto, const InputSpec& spec, Input& input) {
  pbf_reader reader(proto.data(), proto.size());
  int dtype = 0;
  std::string_view content;
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case number(1):
        dtype = reader.get_enum();
        break;
      case bytes(2):
        if (!input.shape.empty() || !read_shape(reader.get_message(), input.shape)) return false;
        break;
      case bytes(4):
        content = view(reader);
        break;
      case bytes(5):
        if (spec.dtype != kFloat) return false;
        append_all<float>(input.numbers, reader.get_packed_float());
        break;
      case bytes(6):
        if (spec.dtype != kDouble) return false;
        append_all<double>(input.numbers, reader.get_packed_double());
        break;
      case bytes(7):
        if (spec.dtype != kInt32) return false;
        append_all<int32_t>(input.numbers, reader.get_packed_int32());
        break;
      case bytes(8):
        if (spec.dtype != kString) return false;
        input.strings.push_back(view(reader));
        break;
      case bytes(10):
        if (spec.dtype != kInt64) return false;
        append_all<int64_t>(input.numbers, reader.get_packed_int64());
        break;
      case bytes(11):
        if (spec.dtype != kBool) return false;
        for (int64_t value : reader.get_packed_int64()) append<uint8_t>(input.numbers, value != 0);
        break;
      default:
        return false;
    }
  }
  if (dtype != spec.dtype || static_cast<int>(input.shape.size()) != spec.rank) return false;
  int64_t count = 1;
  for (int64_t size : input.shape) {
    if (__builtin_mul_overflow(count, size, &count)) return false;
  }
  // Fewer values than elements would be the short form, whose last value fills the rest.
  if (spec.dtype == kString) return content.empty() && static_cast<int64_t>(input.strings.size()) == count;
  if (!content.empty()) {
    if (!input.numbers.empty()) return false;
    input.numbers = content;
  }
  const size_t width = size_of(spec.dtype);
  return input.numbers.size() % width == 0 && static_cast<int64_t>(input.numbers.size() / width) == count;
}

// A row, repeated for all rows.
bool read_row(std::string_view proto, const InputSpec& spec, int64_t rows, Input& input) {
  if (!read_tensor(proto, spec, input) || input.shape[0] != 1) return false;
  const size_t strings = input.strings.size(), numbers = input.numbers.size();
  input.strings.reserve(strings * static_cast<size_t>(rows));
  input.numbers.reserve(numbers * static_cast<size_t>(rows));
  for (input.shape[0] = 1; input.shape[0] < rows; ++input.shape[0]) {
    for (size_t index = 0; index < strings; ++index) input.strings.push_back(input.strings[index]);
    input.numbers.append(input.numbers, 0, numbers);
  }
  return true;
}

void write_shape(pbf_writer& tensor, const std::vector<int64_t>& sizes) {
  pbf_writer shape(tensor, 2);
  for (int64_t size : sizes) {
    pbf_writer dimension(shape, 2);
    dimension.add_int64(1, size);  // 0 too: protozero rolls back an empty message
  }
}

Tensor parse(const std::string& proto) {
  const TensorFlow& tf = tensorflow();
  if (proto.size() > std::numeric_limits<int>::max()) return nullptr;  // exceeds the maximum size of a message
  // The type of the placeholder doesn't matter: parsing replaces its tensor.
  Tensor tensor(tf.AllocateTensor(kFloat, nullptr, 0, sizeof(float)));
  TF_Buffer buffer{proto.data(), proto.size(), nullptr};
  void* status = tf.NewStatus();
  tf.TensorFromProto(&buffer, tensor.get(), status);
  if (tf.GetCode(status) != 0) tensor.reset();
  tf.DeleteStatus(status);
  return tensor;
}

int64_t product(const std::vector<int64_t>& sizes, size_t from) {
  int64_t count = 1;
  for (size_t axis = from; axis < sizes.size(); ++axis) count *= sizes[axis];
  return count;
}

// The joined shape; empty when the parts don't match.
std::vector<int64_t> joined_shape(const std::vector<const Input*>& parts, bool pad) {
  std::vector<int64_t> shape = parts.front()->shape;
  int64_t sent = 0;
  bool is_padded = false;
  shape[0] = 0;
  for (const Input* part : parts) {
    shape[0] += part->shape[0];
    sent += product(part->shape, 0);
    for (size_t axis = 1; axis < shape.size(); ++axis) {
      if (part->shape[axis] == shape[axis]) continue;
      is_padded = true;
      shape[axis] = std::max(shape[axis], part->shape[axis]);
    }
  }
  if (!is_padded) return shape;
  int64_t cells = 1;
  for (int64_t size : shape) {
    if (__builtin_mul_overflow(cells, size, &cells)) return {};
  }
  // Three or more axes need a blockwise copy; the server in Python has one.
  if (!pad || shape.size() != 2 || cells > kFreeCells + kMostGrowth * sent) return {};
  return shape;
}

template <typename Value>
const Value* typed(const char* data, int64_t index) {
  return reinterpret_cast<const Value*>(data) + index;
}

void write_values(pbf_writer& tensor, int dtype, const char* data, int64_t begin, int64_t end) {
  switch (dtype) {
    case kString:
      for (int64_t index = begin; index < end; ++index) {
        const char* record = data + static_cast<size_t>(index) * kStringRecord;
        tensor.add_bytes(8, tensorflow().StringGetDataPointer(record), tensorflow().StringGetSize(record));
      }
      break;
    case kFloat:
      return tensor.add_packed_float(5, typed<float>(data, begin), typed<float>(data, end));
    case kDouble:
      return tensor.add_packed_double(6, typed<double>(data, begin), typed<double>(data, end));
    case kInt32:
      return tensor.add_packed_int32(7, typed<int32_t>(data, begin), typed<int32_t>(data, end));
    case kInt64:
      return tensor.add_packed_int64(10, typed<int64_t>(data, begin), typed<int64_t>(data, end));
    default:
      return tensor.add_packed_bool(11, typed<bool>(data, begin), typed<bool>(data, end));
  }
}

// Repeated fields would have to be merged, or the last one to win: no client sends them.
bool read_model_spec(pbf_reader spec, RawRequest& request) {
  bool has_signature = false;
  while (spec.next()) {
    switch (spec.tag_and_type()) {
      case bytes(1):
        if (!request.model.empty()) return false;
        request.model = view(spec);
        break;
      case bytes(2): {
        if (request.version) return false;
        pbf_reader wrapped = spec.get_message();
        request.version = 0;
        while (wrapped.next()) {
          if (wrapped.tag_and_type() != number(1)) return false;
          request.version = wrapped.get_int64();
        }
        break;
      }
      case bytes(3): {
        if (has_signature) return false;
        has_signature = true;
        const std::string_view signature = view(spec);
        if (!signature.empty()) request.signature = signature;
        break;
      }
      default:
        return false;  // a version label, or a field newer than this code
    }
  }
  return !request.model.empty();
}

bool read_entry(pbf_reader entry, std::pair<std::string_view, std::string_view>& input) {
  bool has_key = false, has_value = false;
  while (entry.next()) {
    if (entry.tag_and_type() == bytes(1) && !has_key) {
      has_key = true;
      input.first = view(entry);
    } else if (entry.tag_and_type() == bytes(2) && !has_value) {
      has_value = true;
      input.second = view(entry);
    } else {
      return false;
    }
  }
  return has_key && has_value;
}

std::optional<RawRequest> read_request_or_throw(std::string_view content) {
  RawRequest request;
  bool has_spec = false;
  pbf_reader reader(content.data(), content.size());
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case bytes(1):
        if (has_spec || !read_model_spec(reader.get_message(), request)) return std::nullopt;
        has_spec = true;
        break;
      case bytes(2):
        if (request.inputs.size() == kMostInputs || !read_entry(reader.get_message(), request.inputs.emplace_back())) {
          return std::nullopt;
        }
        break;
      default:
        return std::nullopt;  // an output filter, or a field newer than this code
    }
  }
  if (!has_spec) return std::nullopt;
  return request;
}

}  // namespace

std::optional<RawRequest> read_request(std::string_view content) {
  try {
    return read_request_or_throw(content);
  } catch (const std::exception&) {  // malformed, or no memory
    return std::nullopt;
  }
}

std::optional<std::vector<Input>> read_inputs(const RawRequest& request, const Signature& signature,
                                              int64_t max_rows) {
  if (request.inputs.empty() || request.inputs.size() > signature.inputs.size()) return std::nullopt;
  std::vector<Input> inputs(signature.inputs.size());
  int64_t rows = 0;
  try {
    for (const auto& [alias, tensor] : request.inputs) {
      size_t index = 0;
      while (index < inputs.size() && signature.inputs[index].alias != alias) ++index;
      if (index == inputs.size() || !inputs[index].shape.empty()) return std::nullopt;  // unknown, or given twice
      if (!read_tensor(tensor, signature.inputs[index], inputs[index])) return std::nullopt;
      if (rows == 0) rows = inputs[index].shape[0];
      if (rows < 1 || rows > max_rows || rows != inputs[index].shape[0]) return std::nullopt;
    }
    for (size_t index = 0; index < inputs.size(); ++index) {
      const InputSpec& spec = signature.inputs[index];
      if (inputs[index].shape.empty() && !(spec.row && read_row(*spec.row, spec, rows, inputs[index]))) {
        return std::nullopt;
      }
    }
  } catch (const std::exception&) {  // malformed, or no memory
    return std::nullopt;
  }
  return inputs;
}

Tensor join(const InputSpec& spec, const std::vector<const Input*>& parts, bool pad) {
  const std::vector<int64_t> shape = joined_shape(parts, pad);
  if (shape.empty()) return nullptr;
  std::string proto, numbers;
  pbf_writer tensor(proto);
  tensor.add_enum(1, spec.dtype);
  write_shape(tensor, shape);
  const size_t width = size_of(spec.dtype);
  for (const Input* part : parts) {
    const int64_t own = product(part->shape, 1), full = product(shape, 1);
    for (int64_t row = 0; row < part->shape[0]; ++row) {
      if (spec.dtype == kString) {
        for (int64_t cell = row * own; cell < (row + 1) * own; ++cell) {
          tensor.add_bytes(8, part->strings[cell].data(), part->strings[cell].size());
        }
        for (int64_t cell = own; cell < full; ++cell) tensor.add_bytes(8, "", 0);
      } else {
        numbers.append(part->numbers, static_cast<size_t>(row * own) * width, static_cast<size_t>(own) * width);
        numbers.append(static_cast<size_t>(full - own) * width, '\0');
      }
    }
  }
  if (!numbers.empty()) tensor.add_bytes(4, numbers);
  return parse(proto);
}

bool are_as_declared(const Signature& signature, const Tensors& results) {
  for (size_t index = 0; index < results.size(); ++index) {
    if (tensorflow().TensorType(results[index].get()) != signature.outputs[index].dtype) return false;
  }
  return true;
}

bool have_rows(const Tensors& results, int64_t rows) {
  const TensorFlow& tf = tensorflow();
  for (const Tensor& result : results) {
    if (tf.NumDims(result.get()) < 1 || tf.Dim(result.get(), 0) != rows) return false;
  }
  return true;
}

std::string write_response(const Signature& signature, const Tensors& results, std::optional<Rows> rows) {
  const TensorFlow& tf = tensorflow();
  std::string content;
  pbf_writer response(content);
  for (size_t index = 0; index < results.size(); ++index) {
    const void* result = results[index].get();
    std::vector<int64_t> shape;
    for (int axis = 0; axis < tf.NumDims(result); ++axis) shape.push_back(tf.Dim(result, axis));
    int64_t begin = 0, end = product(shape, 0);
    if (rows) {
      const int64_t width = product(shape, 1);
      begin = rows->begin * width;
      end = rows->end * width;
      shape[0] = rows->end - rows->begin;
    }
    pbf_writer entry(response, 1);
    entry.add_string(1, signature.outputs[index].alias);
    pbf_writer tensor(entry, 2);
    tensor.add_enum(1, signature.outputs[index].dtype);
    write_shape(tensor, shape);
    if (begin < end) {
      auto data = static_cast<const char*>(tf.TensorData(result));
      write_values(tensor, signature.outputs[index].dtype, data, begin, end);
    }
  }
  content.append(signature.spec_field);
  return content;
}

}  // namespace babelrec
