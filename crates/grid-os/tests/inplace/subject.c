/* Programs that are replaced in place. Each thread that runs counts in the page of the file COUNTERS, which others can
 * read: one instruction of this program more than allowed shows there. `subject MODE COUNTERS`; says "ready". */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static _Atomic unsigned long *counters;
static int nothing[2];
static void count(long slot) { atomic_fetch_add(&counters[slot], 1); }
static void *spin(void *slot) { for (;;) count((long)slot); }
static void *in_futex(void *s) { static int word; for (;;) { syscall(SYS_futex, &word, FUTEX_WAIT, 0, 0, 0, 0); count((long)s); } }
static void *in_poll(void *s) { for (;;) { struct pollfd p = {nothing[0], POLLIN, 0}; poll(&p, 1, 3600000); count((long)s); } }
static void *in_sleep(void *s) { for (;;) { struct timespec t = {3600, 0}; nanosleep(&t, 0); count((long)s); } }
static void *in_read(void *s) { for (;;) { char c; if (read(nothing[0], &c, 1) < 0 && errno != EINTR) abort(); count((long)s); } }
static void *in_epoll(void *s) {
    int e = epoll_create1(0);
    for (;;) { struct epoll_event v; epoll_wait(e, &v, 1, -1); count((long)s); }
}
static void *in_suspend(void *s) { for (;;) { sigset_t all; sigfillset(&all); sigsuspend(&all); count((long)s); } }
static void thread(void *(*body)(void *), long slot) { pthread_t t; if (pthread_create(&t, 0, body, (void *)slot)) abort(); }
static void handler(int signal) { count(100 + signal); }
static void handle(int signal) {
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaction(signal, &a, 0);
}
static void ready(void) { if (write(1, "ready\n", 6) != 6) abort(); }

/* As a language that makes its own small stacks does: the stack pointer is in 16 KiB of the heap. */
static ucontext_t back, small;
static void on_small_stack(void) { ready(); for (;;) count(0); }
static void *with_small_stack(void *unused) {
    stack_t alternative = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&alternative, 0);
    getcontext(&small);
    small.uc_stack.ss_sp = malloc(16384);
    small.uc_stack.ss_size = 16384;
    small.uc_link = &back;
    makecontext(&small, on_small_stack, 0);
    swapcontext(&back, &small);
    return unused;
}

/* Three children, and one of the last. All are there when it returns. */
static void family(void) {
    char c = 0;
    for (long i = 1; i <= 3; i++) {
        if (fork()) continue;
        if (i == 3) { fork(); if (write(nothing[1], &c, 1) != 1) abort(); }
        spin((void *)i);
    }
    for (int i = 0; i < 2; i++) if (read(nothing[0], &c, 1) != 1) abort();
}

/* Armed for everything above the program itself: where a call is made from there, the kernel is to jump here. */
struct critical { unsigned version, flags; unsigned long start, length, abort; } __attribute__((aligned(32)));
void aborted(void);
__asm__(".int 0x53053053\naborted: jmp counted\n");
void __attribute__((used)) counted(void) { for (;;) count(2); }
static void in_sequence(void) {
    static struct critical all = {0, 0, 0x700000000000, 0x0ffffffff000 - 1, 0};
    all.abort = (unsigned long)aborted;
    volatile unsigned long *armed = (void *)((char *)__builtin_thread_pointer() + __rseq_offset + 8);
    ready();
    for (;;) { *armed = (unsigned long)&all; count(1); }
}

int main(int argc, char **argv) {
    int file = open(argv[2], O_RDWR);
    if (argc != 3 || file < 0 || pipe2(nothing, O_CLOEXEC)) abort();
    counters = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    const char *mode = argv[1];
    if (!strcmp(mode, "spin")) thread(spin, 1);
    if (!strcmp(mode, "family")) family();
    if (!strcmp(mode, "odd")) {
        void *(*bodies[])(void *) = {in_futex, in_poll, in_sleep, in_read, in_epoll, in_suspend};
        for (long i = 0; i < 6; i++) thread(bodies[i], i);
        ready();
        for (;;) { pause(); count(7); }
    }
    if (!strcmp(mode, "stack")) { handle(SIGUSR1); thread(with_small_stack, 0); in_suspend((void *)1); }
    if (!strcmp(mode, "leaderless")) { thread(spin, 1); ready(); pthread_exit(0); }
    if (!strcmp(mode, "vfork") && !vfork()) { ready(); for (;;) count(0); }
    if (!strcmp(mode, "signals")) {
        sigset_t blocked;
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGUSR2);
        sigprocmask(SIG_BLOCK, &blocked, 0);
        handle(SIGUSR1); handle(SIGTERM); handle(SIGCONT); handle(SIGRTMIN + 2);
        thread(in_sleep, 1);
    }
    if (!strcmp(mode, "alarm")) {
        struct itimerval often = {{0, 1000}, {0, 1000}};
        handle(SIGALRM); handle(SIGPROF);
        setitimer(ITIMER_REAL, &often, 0);
        setitimer(ITIMER_PROF, &often, 0);
    }
    if (!strcmp(mode, "kept")) { fcntl(dup2(nothing[0], 40), F_SETFD, FD_CLOEXEC); fcntl(dup2(nothing[0], 41), F_SETFD, FD_CLOEXEC); }
    if (!strcmp(mode, "sequence")) in_sequence();
    ready();
    if (!strcmp(mode, "dispatch")) { static char block = 1; prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &block); }
    spin((void *)0);
}
