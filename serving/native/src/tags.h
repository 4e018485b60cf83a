// What gRPC's completion queue hands back when an operation has ended.
#pragma once

namespace babelrec {

struct Tag {
  void (*run)(void* owner, bool is_good);
  void* owner;
};

// A tag that calls a method: `tag_of<&Call::sent>(call)`.
template <auto Method, typename Owner>
Tag tag_of(Owner* owner) {
  return {[](void* of, bool is_good) { (static_cast<Owner*>(of)->*Method)(is_good); }, owner};
}

}  // namespace babelrec
