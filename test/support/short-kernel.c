/*
 * Preloaded into a process, plays a kernel that is short of memory for what the process sends by UDP:
 *
 * - while the file NO_BUFFERS_WHILE is there, each send ends with ENOBUFS;
 * - SEND_BUFFER is the size of each socket's buffer, whatever the process asks for.
 *
 * The system gives ENOBUFS to a UDP socket only where memory has really run out: a full queue of a
 * device is kept from senders that did not ask for ICMP errors.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int is_datagram(int descriptor) {
  int type = 0;
  socklen_t length = sizeof type;
  return getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_DGRAM;
}

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags) {
  ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
  const char *file = getenv("NO_BUFFERS_WHILE");
  if (file != NULL && access(file, F_OK) == 0 && is_datagram(descriptor)) {
    errno = ENOBUFS;
    return -1;
  }
  return real(descriptor, message, flags);
}

int setsockopt(int descriptor, int level, int name, const void *value, socklen_t length) {
  int (*real)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, "setsockopt");
  const char *size = getenv("SEND_BUFFER");
  int isBuffer = level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_SNDBUFFORCE);
  if (size != NULL && isBuffer && is_datagram(descriptor)) {
    int octets = atoi(size);
    return real(descriptor, level, SO_SNDBUF, &octets, sizeof octets);
  }
  return real(descriptor, level, name, value, length);
}
