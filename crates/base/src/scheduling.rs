//! How the operating system shares out processors among this program's threads.
//!
//! What an acknowledgement takes of a processor is some tens of microseconds; what it may wait for one is what whoever
//! runs there is left until its slice ends. Linux protects that slice (`EEVDF`, since 6.6) even from a thread with ten
//! times its weight, and looks again only at the next tick of the clock, milliseconds later.
//!
//! A thread that is woken and asks for shorter slices than the one that runs need not wait for the slice's end (since
//! 6.12). So the daemon's threads ask for short ones, and give up nothing of their share; threads that answer questions
//! ask for long ones, and have a smaller share besides. It is a wish: an older kernel, another system, or a filter on system
//! calls leaves the thread as it was.

/// What the daemon's threads ask for, in nanoseconds. Shorter than what any program has, and long enough that loading, which works for
/// milliseconds on end, keeps its caches.
const SHORT_SLICE: u64 = 500_000;
/// What threads that answer questions ask for: the most.
const LONG_SLICE: u64 = 100_000_000;
/// The system's own length.
const USUAL_SLICE: u64 = 0;
/// How much others are preferred to a question: ten steps of niceness leave a tenth of the weight in a contest for a
/// processor.
const QUESTIONS_NICENESS: i32 = 10;

/// For the calling thread and those that it starts: to run as soon as there is work, for short spells.
pub fn promptly() {
    set_slice(SHORT_SLICE);
}

/// For the calling thread and what it starts: to run as the system has any program run.
pub fn as_usual() {
    set_slice(USUAL_SLICE);
}

/// For the calling thread and those that it starts: after all others of this machine.
pub fn after_others() {
    // Of the calling thread alone. Where it is refused, questions count as much as records.
    let _ = rustix::process::setpriority_process(None, QUESTIONS_NICENESS);
    set_slice(LONG_SLICE);
}

#[cfg(not(target_os = "linux"))]
fn set_slice(_nanoseconds: u64) {}

#[cfg(target_os = "linux")]
fn set_slice(nanoseconds: u64) {
    let Some(mut attributes) = attributes() else { return };
    // Whoever started it under another policy meant that.
    if attributes.sched_policy == libc::SCHED_OTHER as u32 {
        attributes.sched_runtime = nanoseconds;
        // SAFETY: the arguments are those of sched_setattr(2): this thread, a structure that says its own size, no flags.
        // The kernel reads so many bytes, and writes to `size` if it refuses; the structure is ours alone.
        unsafe {
            libc::syscall(libc::SYS_sched_setattr, THIS_THREAD, &raw mut attributes, NO_FLAGS);
        }
    }
}

#[cfg(target_os = "linux")]
const THIS_THREAD: libc::pid_t = 0;
#[cfg(target_os = "linux")]
const NO_FLAGS: libc::c_uint = 0;

/// The calling thread's, where the system tells them.
#[cfg(target_os = "linux")]
fn attributes() -> Option<libc::sched_attr> {
    let size = std::mem::size_of::<libc::sched_attr>() as libc::c_uint;
    let mut attributes = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the arguments are those of sched_getattr(2): this thread, where to write, how many bytes there are, no flags.
    // The kernel writes at most so many, any bits are valid in a structure of integers, and it is ours alone.
    let told = unsafe { libc::syscall(libc::SYS_sched_getattr, THIS_THREAD, &raw mut attributes, size, NO_FLAGS) };
    (told == 0).then_some(attributes)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Slices of ordinary threads are there since Linux 6.12.
    fn has_slices() -> bool {
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy();
        let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
        (numbers.next(), numbers.next()) >= (Some(6), Some(12))
    }

    fn slice() -> u64 {
        attributes().expect("its attributes").sched_runtime
    }

    #[test]
    fn a_prompt_thread_hands_on_its_slice_and_a_question_has_a_long_one_and_a_smaller_share() {
        std::thread::spawn(|| {
            let niceness = attributes().expect("its attributes").sched_nice;
            promptly();
            let inherited = std::thread::spawn(slice).join().expect("no panic");
            as_usual();
            let usual = slice();
            after_others();
            let asked = attributes().expect("its attributes");
            if has_slices() {
                assert_eq!(inherited, SHORT_SLICE);
                assert!(SHORT_SLICE < usual && usual < LONG_SLICE, "{usual}");
                assert_eq!(asked.sched_runtime, LONG_SLICE);
            }
            assert_eq!(asked.sched_nice, QUESTIONS_NICENESS.max(niceness));
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn a_policy_that_somebody_chose_stays() {
        std::thread::spawn(|| {
            let mut chosen = attributes().expect("its attributes");
            chosen.sched_policy = libc::SCHED_BATCH as u32;
            // SAFETY: as in `set_slice`.
            let set = unsafe { libc::syscall(libc::SYS_sched_setattr, THIS_THREAD, &raw mut chosen, NO_FLAGS) };
            assert_eq!(set, 0, "a thread may become a batch");
            promptly();
            assert_eq!(attributes().expect("its attributes").sched_policy, libc::SCHED_BATCH as u32);
        })
        .join()
        .expect("no panic");
    }
}
