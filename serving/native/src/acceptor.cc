#include "acceptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace babelrec {
namespace {

// Pause after a failure that an immediate retry would only repeat.
constexpr int kPauseMillis = 20;
// Interval of the check for closed connections while no client connects.
constexpr int kLookMillis = 1000;

bool is_shortage(int error) { return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM; }

ino_t inode_of(int descriptor) {
  struct stat found {};
  return fstat(descriptor, &found) == 0 && S_ISSOCK(found.st_mode) ? found.st_ino : 0;
}

int accept_one(int listener) { return accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); }

int spare_descriptor() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

}  // namespace

void Acceptor::start() {
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  reserve_ = spare_descriptor();
  if (wake_ < 0 || reserve_ < 0) throw std::system_error(errno, std::generic_category(), "no descriptor for accepting");
  for (int listener : listeners_) fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
  thread_ = std::thread(&Acceptor::run, this);
}

void Acceptor::stop() {
  if (thread_.joinable()) {
    eventfd_write(wake_, 1);
    thread_.join();
  }
  for (int listener : listeners_) close(listener);
  listeners_.clear();
  for (int* descriptor : {&wake_, &reserve_}) {
    if (*descriptor >= 0) close(*descriptor);
    *descriptor = -1;
  }
}

ConnectionCounts Acceptor::counts() { return {open_, accepted_, refused_}; }

void Acceptor::run() {
  std::vector<pollfd> polled{{wake_, POLLIN, 0}};
  for (int listener : listeners_) polled.push_back({listener, POLLIN, 0});
  for (;;) {
    if (poll(polled.data(), polled.size(), connections_.empty() ? -1 : kLookMillis) == 0) forget_closed();
    for (int listener : listeners_) accept_all(listener);
    if (polled.front().revents != 0) return;
  }
}

void Acceptor::accept_all(int listener) {
  for (;;) {
    if (is_full()) return refuse_one(listener);
    const int descriptor = accept_one(listener);
    if (descriptor >= 0) {
      hand_over(descriptor);
    } else if (is_shortage(errno)) {
      return refuse_one(listener);
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;
    }
  }
}

void Acceptor::hand_over(int descriptor) {
  const int yes = 1;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);  // fails for UNIX sockets, which need none
  connections_.push_back({descriptor, inode_of(descriptor)});
  open_ = static_cast<int64_t>(connections_.size());
  ++accepted_;
  entry_.take(descriptor);
}

bool Acceptor::is_full() {
  if (open_ < most_) return false;
  // Not for each one when many are refused.
  if (std::chrono::steady_clock::now() - looked_ > std::chrono::milliseconds(kPauseMillis)) forget_closed();
  return open_ >= most_;
}

void Acceptor::forget_closed() {
  const auto is_closed = [](const Connection& each) { return inode_of(each.descriptor) != each.inode; };
  connections_.erase(std::remove_if(connections_.begin(), connections_.end(), is_closed), connections_.end());
  open_ = static_cast<int64_t>(connections_.size());
  looked_ = std::chrono::steady_clock::now();
}

// Accepts a connection that there is no room for and closes it, or the listener would stay ready and the client wait.
void Acceptor::refuse_one(int listener) {
  if (reserve_ >= 0) close(reserve_);
  const int descriptor = accept_one(listener);
  if (descriptor >= 0) {
    close(descriptor);
    ++refused_;
  }
  reserve_ = spare_descriptor();
  // Others may need the descriptor, and the CPU, more.
  if (descriptor < 0 && errno != EAGAIN) poll(nullptr, 0, kPauseMillis);
}

}  // namespace babelrec
