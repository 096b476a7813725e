/* The compiled helper: a server that clones inits, and the init of each container that is pid 1.
 *
 * It has no step of its own. An init makes the system calls that the notebook sends as operations, in order, and
 * compares each outcome with the one that the notebook expects. At the first one that differs it makes no further call
 * and reports the outcome; the notebook decides, by the same code that sends the operations. Only the spawn of the
 * program and the time from there to its end are written here. nbcontainer/sandbox/helper/operations.py has the other
 * side of the formats.
 *
 * No C library: the program is one file that depends on nothing of the host, in a sealed memory file. Packets come
 * from the notebook alone; all numbers in them are compared with the size of the packet anyway.
 */
#include <stddef.h>
#include <stdint.h>

/* System calls: the numbers that differ by machine, and the calls themselves. */

#if defined(__x86_64__)
enum {
    READ = 0, RT_SIGACTION = 13, RT_SIGPROCMASK = 14, PREAD64 = 17, MMAP = 9, SOCKETPAIR = 53, SENDMSG = 46,
    RECVMSG = 47, CLONE = 56, WAIT4 = 61, KILL = 62, GETPID = 39, PRCTL = 157, RT_SIGTIMEDWAIT = 128,
    CLOCK_GETTIME = 228, EXIT_GROUP = 231, OPENAT = 257, PPOLL = 271, DUP3 = 292, CLOSE = 3, LSEEK = 8, WRITE = 1
};
__asm__(".globl _start\n_start:\n xor %ebp, %ebp\n and $-16, %rsp\n call serve\n hlt\n");
static long sys(long number, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
/* clone(2) with a stack: the child calls `run` and never returns. */
static long clone_with_stack(long flags, void *top, void (*run)(void)) {
    long result;
    ((void **)top)[-1] = (void *)run;
    __asm__ volatile("syscall\n test %%rax, %%rax\n jnz 1f\n xor %%ebp, %%ebp\n pop %%rax\n call *%%rax\n hlt\n1:"
                     : "=a"(result) : "a"((long)CLONE), "D"(flags), "S"((void **)top - 1), "d"(0L)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum {
    READ = 63, RT_SIGACTION = 134, RT_SIGPROCMASK = 135, PREAD64 = 67, MMAP = 222, SOCKETPAIR = 199, SENDMSG = 211,
    RECVMSG = 212, CLONE = 220, WAIT4 = 260, KILL = 129, GETPID = 172, PRCTL = 167, RT_SIGTIMEDWAIT = 137,
    CLOCK_GETTIME = 113, EXIT_GROUP = 94, OPENAT = 56, PPOLL = 73, DUP3 = 24, CLOSE = 57, LSEEK = 62, WRITE = 64
};
__asm__(".globl _start\n_start:\n mov x29, #0\n mov x30, #0\n bl serve\n brk #1\n");
static long sys(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
static long clone_with_stack(long flags, void *top, void (*run)(void)) {
    register long x8 __asm__("x8") = CLONE;
    register long x0 __asm__("x0") = flags;
    register void *x1 __asm__("x1") = top;
    register long x2 __asm__("x2") = 0;
    register void (*x9)(void) __asm__("x9") = run;
    __asm__ volatile("svc #0\n cbnz x0, 1f\n mov x29, #0\n blr x9\n brk #1\n1:"
                     : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x9) : "memory", "x30");
    return x0;
}
#else
#error "unsupported machine"
#endif

#if defined(__x86_64__)
enum { SETNS = 308, SETGROUPS = 116, SETRESUID = 117, SETRESGID = 119, FCHDIR = 81, RELATIVE = 8, O_NOFOLLOW = 0400000 };
enum { PRLIMIT64 = 302 };
#else
enum { SETNS = 268, SETGROUPS = 159, SETRESUID = 147, SETRESGID = 149, FCHDIR = 50, RELATIVE = 1027, O_NOFOLLOW = 0100000 };
enum { PRLIMIT64 = 261 };
#endif

enum { PIDFD_SEND_SIGNAL = 424, PIDFD_OPEN = 434, CLOSE_RANGE = 436 }; /* the same on every machine */
enum { DT_NULL = 0, DT_RELA = 7, DT_RELASZ = 8 };

enum { EINTR = 4, ETOOMANYREFS = 109, SIGINT = 2, SIGKILL = 9, SIGTERM = 15, SIGCHLD = 17, SIGIO = 29, WNOHANG = 1, POLLIN = 1 };
enum { O_NONBLOCK = 04000, O_CLOEXEC = 02000000, INTERVAL = 1000 }; /* INTERVAL: ms between two looks at the notebook */
enum { PR_SET_PDEATHSIG = 1, PR_SET_DUMPABLE = 4, PR_SET_NAME = 15, SA_NOCLDWAIT = 2, CLONE_PIDFD = 0x1000 };
enum { SOL_SOCKET = 1, SCM_RIGHTS = 1, MSG_CTRUNC = 8, MSG_TRUNC = 32, MSG_NOSIGNAL = 0x4000, CMSG_CLOEXEC = 0x40000000 };
enum { CLONE_SPAWN = 0x4000 | 0x100 | SIGCHLD }; /* CLONE_VFORK | CLONE_VM */

/* The descriptors of a server and of an init: the notebook's channel, the process that it ends with (the notebook, of an
 * init the server), the notebook's status. Those from FREE on are the notebook's to use; a server has the namespaces to
 * enter there, the store's directory in them, and the launcher's process. */
enum { ERRORS = 2, CHANNEL = 3, PARENT = 4, STATUS = 5, FREE = 6, USERS = 6, MOUNTS = 7, STORE = 8, LAUNCHER = 9 };
enum { CLONE_NEWNS = 0x20000, CLONE_NEWUSER = 0x10000000, EBADF = 9, RLIMIT_NOFILE = 7 };

/* Packets and their limits. */

enum { PACKET = 1 << 16, OUTPUT = 1 << 15, FILES = 253, CALL = 1, SPAWN = 2, OUTLIVE = 3 };
enum { ANY_RESULT = 1, REPORTED = 2, PRELOADED = 4, BY_RESULT = 8 };
enum { REPORT = 1, ENDED = 2, DISPLAY = 3 };
enum { LEFT = 1u << 31 };

struct batch { uint32_t magic, count; };
struct order { uint32_t magic, number; uint64_t flags; };
struct operation {
    uint32_t size;
    uint8_t kind, pointers, flags, out_argument;
    uint16_t number, relocations, regions, unused;
    uint32_t out_size, unused_too;
    int64_t expected;
    uint64_t arguments[6];
}; /* then pairs for relocations, triples for regions, and the data from the next multiple of 8 on */

enum { MAGIC = 0x3163626e };

struct vector { void *base; size_t size; };
struct message { void *name; uint32_t name_size; struct vector *vectors; size_t count; void *control; size_t control_size; int flags; };
struct control { size_t size; int level, kind; int files[FILES + 1]; };
struct timespec { int64_t seconds, nanoseconds; };
struct poll { int fd; short events, returned; };
struct usage { int64_t user[2], system[2], most, others[13]; };

static _Alignas(16) char packet[PACKET + 16]; /* what follows the packet is always 0 */
static _Alignas(16) char output[OUTPUT];
static _Alignas(16) char stack[1 << 14];
static long cell; /* the pid of the program */

static int equal(const char *a, const char *b, size_t size) {
    while (size && *a == *b) a++, b++, size--;
    return size == 0;
}

/* What the compiler may call by itself. */
void *memset(void *to, int value, size_t size) {
    for (char *next = to; size; size--) *next++ = (char)value;
    return to;
}
void *memcpy(void *to, const void *from, size_t size) {
    char *next = to;
    for (const char *byte = from; size; size--) *next++ = *byte++;
    return to;
}

static _Noreturn void leave(void) {
    for (;;) sys(EXIT_GROUP, 0, 0, 0, 0, 0, 0);
}

static _Noreturn void fail(const char *text, size_t size) { /* for a person: the launcher's error file has it */
    sys(WRITE, ERRORS, (long)text, (long)size, 0, 0, 0);
    leave();
}
#define FAIL(text) fail("nbcontainer init: " text "\n", sizeof("nbcontainer init: " text "\n") - 1)

static int readable(int fd) {
    struct poll one = {fd, POLLIN, 0};
    struct timespec now = {0, 0};
    return sys(PPOLL, (long)&one, 1, (long)&now, 0, 8, 0) > 0;
}

/* Has the kernel end this process with the server; if that has ended before it was asked, ends it now. */
static void end_with_parent(void) {
    sys(PRCTL, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0);
    if (readable(PARENT)) leave();
}

/* Sends a packet with `count` descriptors. Without any, an error means that the other end is closed: its reader has gone.
 * Descriptors may be refused: the kernel counts those on their way, in all sockets of a user (ETOOMANYREFS, unix(7)). */
static long send_packet(int socket, void *head, size_t head_size, const void *body, size_t size, const int *files, int count) {
    struct vector parts[2] = {{head, head_size}, {(void *)(uintptr_t)body, size}};
    struct control control = {16 + 4 * (size_t)count, SOL_SOCKET, SCM_RIGHTS, {0}};
    struct message message = {0, 0, parts, 2, 0, 0, 0};
    for (int i = 0; i < count; i++) control.files[i] = files[i];
    if (count) message.control = &control, message.control_size = 16 + ((4 * (size_t)count + 7) & ~(size_t)7);
    return sys(SENDMSG, socket, (long)&message, MSG_NOSIGNAL, 0, 0, 0);
}

static void report(uint32_t sequence, int64_t result, size_t size) {
    struct { uint32_t kind, sequence; int64_t result; } head = {REPORT, sequence, result};
    send_packet(CHANNEL, &head, sizeof head, output, size, 0, 0);
}

static struct control received; /* with the descriptors of the last packet */
static int received_count;

/* Receives one packet: its size, 0 at the end. Descriptors are at the lowest free numbers, in order. A packet that
 * has nothing but the word "memory file" is in the last of these, which is mapped and closed: `*place` leads to it. */
static size_t receive(int socket, char **place) {
    struct vector part = {packet, PACKET};
    struct message message = {0, 0, &part, 1, &received, sizeof received, 0};
    long size;
    do size = sys(RECVMSG, socket, (long)&message, CMSG_CLOEXEC, 0, 0, 0); while (size == -EINTR);
    if (size <= 0) return 0;
    if (message.flags & (MSG_CTRUNC | MSG_TRUNC)) FAIL("a message was cut off");
    received_count = message.control_size > 16 ? (int)((received.size - 16) / 4) : 0;
    for (size_t i = 0; i < 16; i++) packet[(size_t)size + i] = 0;
    *place = packet;
    if (size == 11 && equal(packet, "memory file", 11) && received_count) {
        int fd = received.files[received_count - 1];
        long length = sys(LSEEK, fd, 0, 2, 0, 0, 0);
        long mapped = length <= 0 ? -1 : sys(MMAP, 0, length + 16, 3, 2, fd, 0); /* private, to be written to */
        if (mapped < 0 && mapped > -4096) FAIL("a message cannot be mapped");
        sys(CLOSE, fd, 0, 0, 0, 0, 0);
        *place = (char *)mapped;
        return (size_t)length;
    }
    return (size_t)size;
}

/* The parts of an operation. */
struct parts { char *data; size_t size; uint32_t *relocations, *regions; };

static int split(struct operation *one, size_t left, struct parts *parts) {
    size_t head = sizeof *one + 8 * (size_t)one->relocations + 12 * (size_t)one->regions;
    head = (head + 7) & ~(size_t)7;
    if (one->size > left || one->size < head || one->size & 7 || one->out_size > OUTPUT) return 0;
    if (one->out_size && one->out_argument >= 6) return 0;
    parts->relocations = (uint32_t *)(one + 1);
    parts->regions = parts->relocations + 2 * (size_t)one->relocations;
    parts->data = (char *)one + head;
    parts->size = one->size - head;
    for (size_t i = 0; i < one->relocations; i++) {
        uint32_t where = parts->relocations[2 * i], what = parts->relocations[2 * i + 1];
        if (parts->size < 8 || where > parts->size - 8 || where & 7 || what >= parts->size) return 0;
    }
    for (size_t i = 0; i < 6; i++)
        if (one->pointers >> i & 1 && one->arguments[i] >= parts->size) return 0;
    for (size_t i = 0; i < one->regions; i++) {
        uint32_t *region = parts->regions + 3 * i; /* place in the output, size, place in the data */
        if (region[1] > one->out_size || region[0] > one->out_size - region[1]) return 0;
        if (region[1] > parts->size || region[2] > parts->size - region[1]) return 0;
    }
    return !(one->flags & PRELOADED) || one->out_size <= parts->size;
}

/* Makes the call of an operation. Returns whether its outcome is the expected one; `*result` is the kernel's. */
static int call(struct operation *one, struct parts *parts, int64_t *result) {
    long a[6];
    for (size_t i = 0; i < one->relocations; i++) {
        uint64_t address = (uint64_t)(uintptr_t)(parts->data + parts->relocations[2 * i + 1]);
        memcpy(parts->data + parts->relocations[2 * i], &address, 8);
    }
    for (size_t i = 0; i < 6; i++)
        a[i] = one->pointers >> i & 1 ? (long)(parts->data + one->arguments[i]) : (long)one->arguments[i];
    if (one->out_size) a[one->out_argument] = (long)output;
    if (one->flags & PRELOADED) memcpy(output, parts->data, one->out_size);
    *result = sys(one->number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (one->flags & ANY_RESULT) return 1;
    if (one->flags & REPORTED || *result != one->expected) return 0;
    for (size_t i = 0; i < one->regions; i++) {
        uint32_t *region = parts->regions + 3 * i;
        if (!equal(output + region[0], parts->data + region[2], region[1])) return 0;
    }
    return 1;
}

static struct operation *spawned; /* what the child of a spawn does: calls up to execve(2), to `spawned_end` */
static char *spawned_end;
static volatile int64_t spawn_error;

static void child(void) {
    int64_t result = -1;
    struct parts parts;
    for (char *next = (char *)spawned; (size_t)(spawned_end - next) >= sizeof *spawned; next += ((struct operation *)next)->size) {
        struct operation *one = (struct operation *)next;
        result = -22;
        if (!split(one, (size_t)(spawned_end - next), &parts) || one->kind != CALL || !call(one, &parts, &result)) break;
    }
    spawn_error = result < 0 ? result : -22;
    for (;;) sys(EXIT_GROUP, 127, 0, 0, 0, 0, 0);
}

/* Starts the program as vfork(2) does; returns its pid, or the error of a call of the child, which is reaped. */
static int64_t spawn(struct parts *parts) {
    spawned = (struct operation *)parts->data;
    spawned_end = parts->data + parts->size;
    spawn_error = 0;
    long pid = clone_with_stack(CLONE_SPAWN, stack + sizeof stack, child);
    if (pid > 0 && spawn_error) {
        sys(WAIT4, pid, 0, 0, 0, 0, 0);
        return spawn_error;
    }
    return cell = pid;
}

/* The watch over the notebook, as `launcher/notebook_watch.py` has it, whose texts give the reasons. */

enum { ACTS, INTERRUPTED, GONE };

static int64_t now(void) { /* in milliseconds */
    struct timespec time;
    sys(CLOCK_GETTIME, 1, (long)&time, 0, 0, 0, 0);
    return time.seconds * 1000 + time.nanoseconds / 1000000;
}

/* The status has a line of all groups of its user before those that count: it is read to its end, in parts. What is left of
 * a line that is longer than a part is not one of these. */
static int notebook_state(long status) {
    uint64_t pending = 0;
    int memory = 0, waits = 0;
    long place = 0, size;
    while ((size = sys(PREAD64, status, (long)output, OUTPUT, place, 0, 0)) > 0) {
        char *line = output, *end = output + size, *next;
        for (;; line = next + 1) {
            for (next = line; next < end && *next != '\n'; next++);
            if (next == end) break;
            size_t left = (size_t)(next - line);
            if (left > 7 && equal(line, "VmSize:", 7)) memory = 1;
            if (left > 7 && equal(line, "State:\tD", 8)) waits = 1;
            if (left > 8 && (equal(line, "SigPnd:\t", 8) || equal(line, "ShdPnd:\t", 8))) {
                uint64_t mask = 0;
                for (char *digit = line + 8; digit < next; digit++)
                    mask = mask << 4 | (uint64_t)(*digit <= '9' ? *digit - '0' : *digit - 'a' + 10);
                pending |= mask;
            }
        }
        place += line == output ? size : line - output;
    }
    if (size < 0) return size == -3 ? GONE : ACTS; /* ESRCH */
    if (!memory || pending >> (SIGKILL - 1) & 1) return GONE;
    return pending >> (SIGINT - 1) & 1 && waits ? INTERRUPTED : ACTS;
}

struct life { int64_t deadline; int before, asked; }; /* of one cell; the deadline in ms, 0 for none */

static int ask(struct life *life, int number) {
    int asked = life->asked;
    life->asked = 1;
    return asked ? SIGKILL : number;
}

static void end_if_due(struct life *life, long status) {
    int found = notebook_state(status), twice = found == life->before, number = 0;
    life->before = found;
    if (found == GONE) {
        sys(KILL, -1, SIGKILL, 0, 0, 0, 0);
        return;
    }
    if (found == INTERRUPTED && twice) number = ask(life, SIGINT);
    else if (life->deadline && now() >= life->deadline) number = ask(life, SIGTERM);
    if (number == SIGKILL) sys(KILL, -1, SIGKILL, 0, 0, 0, 0);
    else if (number) sys(KILL, -cell, number, 0, 0, 0, 0);
}

static int owed; /* whether the directory is to be handed out, and was refused */

/* SIGIO: the first file in `shown` hands the directory out, once. If it is refused, since too many descriptors are on
 * their way, the next look at the notebook tries again: a program waits for it. */
static void hand_out(uint64_t *arguments) {
    if ((int64_t)arguments[2] < 0) return;
    uint32_t head[2] = {DISPLAY, 0};
    int directory = (int)arguments[3];
    owed = send_packet(CHANNEL, head, sizeof head, 0, 0, &directory, 1) == -ETOOMANYREFS;
    if (owed) return;
    sys(CLOSE, (long)arguments[2], 0, 0, 0, 0, 0);
    sys(CLOSE, directory, 0, 0, 0, 0, 0);
    arguments[2] = (uint64_t)-1;
}

/* Kills all other processes of the pid namespace and reaps them; returns how many were still running. One that this user
 * may not kill, a setuid program, ends with this process: the sum is marked with LEFT then. */
static uint32_t end_everything(void) {
    const uint64_t child = 1 << (SIGCHLD - 1);
    int64_t left, until = now() + INTERVAL;
    int status;
    uint32_t killed = 0;
    sys(KILL, -1, SIGKILL, 0, 0, 0, 0);
    for (;;) {
        long pid = sys(WAIT4, -1, (long)&status, WNOHANG, 0, 0, 0);
        if (pid < 0) return killed;
        if (pid > 0) killed += (status & 0x7f) == SIGKILL;
        if ((left = until - now()) <= 0) return killed | LEFT;
        if (pid > 0) continue;
        struct timespec wait = {0, left * 1000000 - 1};
        sys(RT_SIGTIMEDWAIT, (long)&child, 0, (long)&wait, 8, 0, 0);
    }
}

/* The counters of the network (proc_pid_net(5), snmp), for hints; the notebook reads the text. */
static size_t counters(void) {
    long fd = sys(OPENAT, -100, (long)"/proc/self/net/snmp", O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, 0, 0, 0);
    long size = fd < 0 ? 0 : sys(READ, fd, (long)output, 1 << 14, 0, 0, 0);
    return size < 0 ? 0 : (size_t)size;
}

/* From the start of the program to its end: reaps, hands signals on, reports. `arguments`: the descriptor of the
 * notebook's status, the time limit in ms (0 for none), those of `shown` and its directory, whether files there are
 * looked for at once, and the set of awaited signals. Ends the process. */
static _Noreturn void outlive(uint64_t *arguments) {
    struct life life = {arguments[1] ? now() + (int64_t)arguments[1] + 1000 : 0, ACTS, 0};
    struct usage usage;
    int64_t next = now() + INTERVAL;
    int status;
    if (arguments[4]) hand_out(arguments);
    for (;;) {
        long pid = sys(WAIT4, -1, (long)&status, WNOHANG, (long)&usage, 0, 0);
        if (pid == cell) break;
        int64_t left = next - now();
        if (left <= 0) { /* no flood of signals or of orphans delays it */
            end_if_due(&life, (long)arguments[0]);
            if (owed) hand_out(arguments);
            next = now() + (left = INTERVAL);
        }
        if (pid > 0) continue;
        struct timespec wait = {0, left * 1000000 - 1};
        long taken = sys(RT_SIGTIMEDWAIT, (long)&arguments[5], 0, (long)&wait, 8, 0, 0);
        if (taken == SIGIO) hand_out(arguments);
        else if (taken > 0 && taken != SIGCHLD) sys(KILL, -cell, taken, 0, 0, 0, 0);
    }
    size_t size = status ? counters() : 0;
    struct { uint32_t kind, killed; int64_t status, time, memory; } head = {ENDED, 0, status, 0, usage.most};
    head.time = (usage.user[0] + usage.system[0]) * 1000000 + usage.user[1] + usage.system[1];
    head.killed = end_everything();
    send_packet(CHANNEL, &head, sizeof head, output, size, 0, 0);
    leave();
}

/* Makes the calls of a batch, and reports the first outcome that is not the expected one, or that all are. */
static void make(char *next, char *end) {
    struct batch *batch = (struct batch *)next;
    if ((size_t)(end - next) < sizeof *batch || batch->magic != MAGIC) FAIL("a message is not a batch");
    uint32_t count = batch->count;
    next += sizeof *batch;
    for (uint32_t sequence = 0; sequence < count; sequence++) {
        struct operation *one = (struct operation *)next;
        struct parts parts;
        int64_t result;
        if ((size_t)(end - next) < sizeof *one || !split(one, (size_t)(end - next), &parts)) FAIL("an operation is cut off");
        int expected = 1;
        if (one->kind == OUTLIVE) {
            /* It kills all processes that it can name: those of its own pid namespace, and no others. */
            if (cell <= 0 || sys(GETPID, 0, 0, 0, 0, 0, 0) != 1) FAIL("there is no program to supervise");
            outlive(one->arguments);
        }
        else if (one->kind == SPAWN) {
            result = spawn(&parts);
            expected = !(one->flags & REPORTED) && (result > 0 ? one->expected > 0 : result == one->expected);
        }
        else if (one->kind == CALL) expected = call(one, &parts, &result);
        else FAIL("unknown kind of operation");
        if (!expected) {
            size_t size = one->flags & BY_RESULT ? (result > 0 ? (size_t)result : 0) : one->out_size;
            report(sequence, result, result < 0 || size > OUTPUT ? 0 : size);
            return;
        }
        next += one->size;
    }
    if (count) report(count, 0, 0); /* an empty batch is to wake up by */
}

/* Init: makes the calls of the order, then those that come by its own channel. Ends the process. */
static _Noreturn void init(char *next, char *end) {
    long action[4] = {0, 0, 0, 0};
    char *place;
    size_t size;
    end_with_parent();
    sys(PRCTL, PR_SET_NAME, (long)"nbcontainer-init", 0, 0, 0, 0);
    sys(RT_SIGACTION, SIGCHLD, (long)action, 0, 8, 0, 0);
    make(next, end);
    while ((size = receive(CHANNEL, &place))) make(place, place + size);
    leave();
}

static void take_order(size_t size, int itself) {
    struct order *order = (struct order *)packet;
    int ends[2], pidfd = -1, given[2];
    if (size < sizeof *order || order->magic != MAGIC) FAIL("a message is not an order");
    long pid = sys(SOCKETPAIR, 1, 5 | O_CLOEXEC, 0, (long)ends, 0, 0); /* AF_UNIX, SOCK_SEQPACKET */
    if (pid == 0) {
        pid = sys(CLONE, (long)order->flags | CLONE_PIDFD | SIGCHLD, 0, (long)&pidfd, 0, 0, 0);
        if (pid == 0) {
            sys(DUP3, ends[1], CHANNEL, O_CLOEXEC, 0, 0, 0);
            sys(DUP3, itself, PARENT, O_CLOEXEC, 0, 0, 0);
            /* Each is above the place that it gets: they are in order, and above `itself`. */
            for (int i = 0; i < received_count; i++) sys(DUP3, received.files[i], FREE + i, O_CLOEXEC, 0, 0, 0);
            sys(CLOSE_RANGE, FREE + received_count, ~0U, 0, 0, 0, 0);
            init(packet + sizeof *order, packet + size);
        }
        sys(CLOSE, ends[1], 0, 0, 0, 0, 0);
    } else ends[0] = -1;
    struct { uint32_t number; int32_t pid; } answer = {order->number, (int32_t)pid};
    given[0] = pidfd, given[1] = ends[0];
    long sent = send_packet(CHANNEL, &answer, sizeof answer, 0, 0, given, pid > 0 ? 2 : 0);
    if (pid > 0 && sent < 0) {
        struct poll dead = {pidfd, POLLIN, 0};
        sys(PIDFD_SEND_SIGNAL, pidfd, SIGKILL, 0, 0, 0, 0);
        sys(PPOLL, (long)&dead, 1, 0, 0, 8, 0); /* its mounts end before the notebook removes what is below them */
        answer.pid = (int32_t)sent;
        send_packet(CHANNEL, &answer, sizeof answer, 0, 0, 0, 0);
    }
    if (ends[0] >= 0) sys(CLOSE, ends[0], 0, 0, 0, 0, 0);
    if (pidfd >= 0) sys(CLOSE, pidfd, 0, 0, 0, 0, 0);
    for (int i = 0; i < received_count; i++) sys(CLOSE, received.files[i], 0, 0, 0, 0, 0);
}

/* Enters the namespaces of the launcher as root of them, and the store. Returns the descriptor of the launcher's process.
 * Without descriptors, as in tests of the decoder, it stays where it is and returns -1. */
static int enter(void) {
    long entered = sys(SETNS, USERS, CLONE_NEWUSER, 0, 0, 0, 0);
    if (entered == -EBADF) return -1;
    if (entered || sys(SETNS, MOUNTS, CLONE_NEWNS, 0, 0, 0, 0)) FAIL("the namespaces cannot be entered");
    sys(SETGROUPS, 0, 0, 0, 0, 0, 0); /* with a single id, the kernel refuses it, as it does to the launcher */
    if (sys(SETRESGID, 0, 0, 0, 0, 0, 0) || sys(SETRESUID, 0, 0, 0, 0, 0, 0)) FAIL("it cannot become root");
    if (sys(FCHDIR, STORE, 0, 0, 0, 0, 0)) FAIL("the store cannot be entered");
    for (int fd = USERS; fd <= STORE; fd++) sys(CLOSE, fd, 0, 0, 0, 0, 0);
    return LAUNCHER;
}

/* Applies the relocations of this program (ld.so(8) does so for others): each is a place that gets an address, relative to
 * where the program is loaded. Some compilers keep the addresses of constants in such places. */
static void relocate(void) {
    extern char __ehdr_start[] __attribute__((visibility("hidden")));
    extern uint64_t _DYNAMIC[] __attribute__((visibility("hidden")));
    uint64_t table = 0, size = 0;
    for (uint64_t *entry = _DYNAMIC; entry[0] != DT_NULL; entry += 2) {
        if (entry[0] == DT_RELA) table = entry[1];
        if (entry[0] == DT_RELASZ) size = entry[1];
    }
    for (uint64_t at = 0; at < size; at += 24) { /* place, kind, address */
        uint64_t *one = (uint64_t *)(__ehdr_start + table + at);
        if (one[1] != RELATIVE) leave();
        *(uint64_t *)(__ehdr_start + one[0]) = (uint64_t)(uintptr_t)__ehdr_start + one[2];
    }
}

/* The server: an order is answered with the pid, a pidfd and a channel. It ends with the notebook and the launcher,
 * and its inits end with it. Its children are reaped by the kernel, and all signals wait: an init takes them. */
_Noreturn void serve(void) {
    long action[4] = {0, SA_NOCLDWAIT, 0, 0};
    uint64_t all = ~(uint64_t)0, limits[2];
    char *place;
    relocate();
    sys(PRCTL, PR_SET_NAME, (long)"nbcontainer", 0, 0, 0, 0); /* it is the number of a descriptor */
    sys(PRCTL, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
    /* So that containers, which may open half as many files, cannot have its answers refused. */
    if (sys(PRLIMIT64, 0, RLIMIT_NOFILE, 0, (long)limits, 0, 0) == 0) {
        limits[0] = limits[1];
        sys(PRLIMIT64, 0, RLIMIT_NOFILE, (long)limits, 0, 0, 0);
    }
    sys(CLOSE_RANGE, CHANNEL, ~0U, 4, 0, 0, 0); /* CLOSE_RANGE_CLOEXEC */
    sys(RT_SIGACTION, SIGCHLD, (long)action, 0, 8, 0, 0);
    sys(RT_SIGPROCMASK, 2, (long)&all, 0, 8, 0, 0);
    int launcher = enter();
    sys(PRCTL, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
    struct { uint32_t number; int32_t pid; } began = {0, 0};
    send_packet(CHANNEL, &began, sizeof began, 0, 0, 0, 0);
    int itself = (int)sys(PIDFD_OPEN, sys(GETPID, 0, 0, 0, 0, 0, 0), 0, 0, 0, 0, 0);
    for (;;) {
        struct poll all_of_them[3] = {{CHANNEL, POLLIN, 0}, {PARENT, POLLIN, 0}, {launcher, POLLIN, 0}};
        if (sys(PPOLL, (long)all_of_them, 3, 0, 0, 8, 0) < 0) continue;
        if ((all_of_them[1].returned | all_of_them[2].returned) & POLLIN) leave();
        size_t size = all_of_them[0].returned ? receive(CHANNEL, &place) : 0;
        if (!size) leave();
        if (place != packet) FAIL("an order is too long");
        take_order(size, itself);
    }
}
