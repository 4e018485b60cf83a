// Fuzzes the front's parser.
//
// With Clang: clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address,undefined (libFuzzer drives it).
// With GCC: g++ -std=c++17 -g -O1 -DSTANDALONE -fsanitize=address,undefined; then ./fuzz CORPUS... -seed=1 -runs=100000
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "../../../serving/native/src/messages.h"

using namespace babelrec;

namespace {

Signature signature() {
  Signature made;
  // A row of the text input, as the server writes it: TensorProto{dtype: DT_STRING, shape: [1], string_val: ""}.
  const std::string row("\x08\x07\x12\x04\x12\x02\x08\x01\x42\x00", 10);
  made.inputs = {{"text", kString, 1, row}, {"number", kFloat, 1, {}}, {"list", kInt64, 2, {}}, {"flag", kBool, 1, {}}};
  return made;
}

// Reads everything that was parsed, to its last byte, so that the sanitizers check it.
void check(const std::vector<Input>& inputs, const Signature& of) {
  if (inputs.size() != of.inputs.size()) std::abort();
  size_t sum = 0;
  for (size_t index = 0; index < inputs.size(); ++index) {
    const Input& input = inputs[index];
    if (static_cast<int>(input.shape.size()) != of.inputs[index].rank || input.shape[0] != inputs[0].shape[0] ||
        input.shape[0] < 1 || input.shape[0] > 32) {
      std::abort();
    }
    int64_t cells = 1;
    for (int64_t size : input.shape) cells *= size;
    if (of.inputs[index].dtype == kString && static_cast<int64_t>(input.strings.size()) != cells) std::abort();
    for (std::string_view text : input.strings) {
      for (char each : text) sum += static_cast<unsigned char>(each);
    }
    for (char each : input.numbers) sum += static_cast<unsigned char>(each);
  }
  volatile size_t kept = sum;
  (void)kept;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Signature of = signature();
  // A separate copy, so that reads beyond its end are detected.
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  if (std::optional<RawRequest> request = read_request(bytes)) {
    if (std::optional<std::vector<Input>> inputs = read_inputs(*request, of, 32)) check(*inputs, of);
  }
  return 0;
}

#ifdef STANDALONE
namespace {

void mutate(std::string& bytes, std::mt19937_64& random) {
  const auto below = [&](size_t most) { return most == 0 ? 0 : random() % most; };
  for (size_t change = below(4) + 1; change > 0; --change) {
    const size_t place = below(bytes.size() + 1);
    switch (below(6)) {
      case 0:
        if (place < bytes.size()) bytes[place] = static_cast<char>(random());
        break;
      case 1:
        if (place < bytes.size()) bytes[place] = static_cast<char>(bytes[place] ^ (1 << below(8)));
        break;
      case 2:
        bytes.erase(place, below(8));
        break;
      case 3:
        bytes.insert(place, below(8), static_cast<char>(random()));
        break;
      case 4:
        bytes.insert(place, bytes.substr(below(bytes.size() + 1), below(16)));
        break;
      default:
        bytes.resize(place);
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<std::string> corpus{""};
  uint64_t seed = 0, runs = 0;
  for (int index = 1; index < count; ++index) {
    const std::string argument = arguments[index];
    if (argument.rfind("-seed=", 0) == 0) {
      seed = std::stoull(argument.substr(6));
    } else if (argument.rfind("-runs=", 0) == 0) {
      runs = std::stoull(argument.substr(6));
    } else {
      std::ifstream file(argument, std::ios::binary);
      corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  }
  std::mt19937_64 random(seed);
  const auto run = [](const std::string& bytes) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  };
  for (const std::string& bytes : corpus) run(bytes);
  for (uint64_t done = 0; done < runs; ++done) {
    std::string bytes = corpus[random() % corpus.size()];
    mutate(bytes, random);
    run(bytes);
  }
  std::printf("%llu runs\n", static_cast<unsigned long long>(runs));
}
#endif
