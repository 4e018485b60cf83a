/* Preloaded into a server: its wall clock differs from the machine's by the seconds in a file, which may change at any
 * time, as when an administrator or NTP steps the clock. The monotonic clock is left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t* shared;

static int64_t offset(void) {
  if (shared == NULL) {
    const char* path = getenv("CLOCK_SHIFT_FILE");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    void* mapped = mmap(NULL, sizeof *shared, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) return 0;
    shared = mapped;
  }
  return *shared;
}

int clock_gettime(clockid_t id, struct timespec* now) {
  static int (*real)(clockid_t, struct timespec*);
  if (real == NULL) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(id, now);
  if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
  return result;
}

int gettimeofday(struct timeval* restrict now, void* restrict zone) {
  (void)zone;
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  now->tv_sec = found.tv_sec;
  now->tv_usec = found.tv_nsec / 1000;
  return 0;
}

time_t time(time_t* now) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (now != NULL) *now = found.tv_sec;
  return found.tv_sec;
}

/* The kernel's clock is not shifted: deadlines by the wall clock, which are large numbers, are taken back. */
static struct timespec taken_back(const struct timespec* deadline) {
  struct timespec found = *deadline;
  if (found.tv_sec > 1000000000) found.tv_sec -= offset();
  return found;
}

int pthread_cond_timedwait(pthread_cond_t* restrict condition, pthread_mutex_t* restrict mutex,
                           const struct timespec* restrict deadline) {
  static int (*real)(pthread_cond_t*, pthread_mutex_t*, const struct timespec*);
  if (real == NULL) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  struct timespec found = taken_back(deadline);
  return real(condition, mutex, &found);
}

int sem_timedwait(sem_t* restrict semaphore, const struct timespec* restrict deadline) {
  static int (*real)(sem_t*, const struct timespec*);
  if (real == NULL) real = dlsym(RTLD_NEXT, "sem_timedwait");
  struct timespec found = taken_back(deadline);
  return real(semaphore, &found);
}
