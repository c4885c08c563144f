#include "core/helper_thread.h"

#include <csignal>

#include <pthread.h>

namespace dcs3gd {

void begin_helper_thread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.c_str());
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace dcs3gd
