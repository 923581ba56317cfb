//! Faults, and how the daemon survives them: each row breaks something, lets the daemon recover, and calls one oracle.
//!
//! ## The oracle
//! [`oracle`] checks the same after every row:
//! * each acknowledged record is in the database exactly once, with the payload that was sent: in the call log, or, if
//!   it was refused, in the dead letters. No record is there that was not sent;
//! * `tallyd reconcile` finds every rollup equal to the call log;
//! * a fresh record passes from the socket to the call log.
//!
//! The oracle can fail: `fault_10_…` and `fault_18_…_is_noticed` break the daemon so that it does lose and double
//! records, and pass only if the oracle reports them.
//!
//! ## Running it
//! `cargo test --test faults` runs every row briefly. `make faults` runs each of them deep, one after the other, shows
//! progress, and writes `target/faults/report.json`; it sets `TALLYD_FAULTS=deep`. `TALLYD_FAULTS=20` runs 20 per cent
//! of the deep rounds. `TALLYD_TEST_SEED` repeats a run. Some rows need root (loop mounts, tmpfs), `strace`, or a C
//! compiler: `scripts/need-strace` installs the programs it can. Without them a brief run says `NOT RUN`, and a deep
//! one fails.
//!
//! ## Adding a row
//! 1. Write `pub fn my_fault(run: &mut Run)` in a file of its kind. [`Run::rounds`](run::Run::rounds) gives the rounds;
//!    [`Rig`](rig::Rig) has a PostgreSQL, a daemon and producers at work. Break something. Then
//!    [`Rig::judge`](rig::Rig::judge) waits for the recovery, calls the oracle and counts for the report.
//!    ```text
//!    pub fn backend_terminated(run: &mut Run) {
//!        let mut rig = Rig::start(run, |daemon| daemon);       // the closure may change settings
//!        rig.produce(2);                                       // two producers, until judged
//!        for _ in run.rounds() {
//!            rig.until_acked(200);
//!            rig.postgres.psql("SELECT pg_terminate_backend(…)");
//!        }
//!        rig.judge(run);
//!    }
//!    ```
//! 2. Add a line to the table below: `row!(number, name, function, brief rounds, deep rounds);`
//! 3. Break the code once, and see the row go red.
//!
//! | to break | use |
//! |---|---|
//! | the daemon at a place in its code | [`inject::failpoints`], and a `failpoint::hit("…")` in the code |
//! | a system call | [`inject::strace`] |
//! | a write, in its middle | [`inject::short_writes`] |
//! | the power | [`power::Image`] |
//! | the disk's space | [`power::Tmpfs`] |
//! | the connection to PostgreSQL | `support::proxy::Proxy`, and [`rig::Rig::through_proxy`] |

mod calls;
mod inject;
mod oracle;
mod power;
mod producers;
mod rig;
mod run;
#[path = "../it/support/mod.rs"]
mod support;

mod applications;
mod clients;
mod damage;
mod disk_full;
mod golden;
mod hostile_bytes;
mod hostile_producers;
mod identities;
mod kills;
mod lost_folders;
mod merges;
mod never_read;
mod power_cuts;
mod process;
mod steps;

mod database;
mod restored;
mod schema;
mod syscalls;
mod torn;

macro_rules! row {
    ($number:literal, $name:ident, $function:path, $brief:literal, $deep:literal) => {
        #[test]
        fn $name() {
            $crate::run::Run::of($number, stringify!($name), $brief, $deep).row($function);
        }
    };
}

row!(1, fault_01_kill_at_random, kills::at_random, 6, 1_000);
row!(2, fault_02_kill_at_each_write_and_sync, syscalls::killed_at_each_call, 8, 600);
row!(3, fault_03_kill_before_the_ack, steps::before_the_ack, 4, 400);
row!(3, fault_03_kill_in_a_rotation, steps::in_a_rotation, 2, 100);
row!(4, fault_04_kill_after_commit, steps::after_commit, 3, 300);
row!(5, fault_05_kill_in_mid_copy, steps::in_mid_transaction, 3, 300);
row!(6, fault_06_kill_while_the_log_opens, syscalls::killed_while_the_log_opens, 9, 200);
row!(7, fault_07_power_cut, power_cuts::after_an_ack, 3, 100);
row!(8, fault_08_torn_writes, torn::torn_and_reordered_writes, 4, 200);
row!(9, fault_09_a_write_or_sync_fails, syscalls::a_call_fails, 6, 200);
row!(10, fault_10_a_disk_that_lies_is_noticed, power_cuts::a_disk_that_lies_is_noticed, 1, 20);
row!(11, fault_11_disk_full_to_the_reserve, disk_full::up_to_the_reserve, 2, 40);
row!(11, fault_11_disk_full_to_the_last_byte, disk_full::to_the_last_byte, 1, 30);
row!(12, fault_12_short_and_interrupted_writes, torn::short_and_interrupted_writes, 1, 20);
row!(13, fault_13_flipped_bits, damage::flipped_bits, 2, 60);
row!(14, fault_14_torn_snapshots, damage::torn_snapshots, 2, 60);
row!(15, fault_15_a_second_daemon, damage::a_second_daemon, 2, 30);
row!(18, fault_18_an_ignored_watermark_is_noticed, steps::an_ignored_watermark_is_noticed, 1, 20);
row!(26, fault_26_a_client_dies_in_mid_frame, clients::dies_in_mid_frame, 10, 500);
row!(40, fault_40_an_application_is_killed_with_its_spool, applications::killed_with_its_spool, 12, 1_000);
row!(40, fault_40_an_application_on_a_full_disk, applications::on_a_full_disk, 4, 100);
row!(27, fault_27_slow_and_idle_clients, clients::slow_and_idle, 1, 5);
row!(28, fault_28_the_clock_jumps, process::the_clock_jumps, 1, 40);
row!(29, fault_29_a_task_dies, process::a_task_dies, 6, 120);
row!(30, fault_30_few_descriptors, process::few_descriptors, 1, 20);
row!(30, fault_30_little_memory, process::little_memory, 3, 60);
row!(31, fault_31_sigterm_under_load, process::sigterm_under_load, 3, 100);
row!(16, fault_16_postgresql_stopped_for_long, database::stopped_for_long, 1, 3);
row!(17, fault_17_postgresql_killed_in_mid_transaction, database::killed_in_mid_transaction, 2, 60);
row!(18, fault_18_the_reply_to_commit_is_lost, database::commit_reply_lost, 3, 300);
row!(19, fault_19_the_connection_hangs_in_mid_copy, database::hangs_in_mid_copy, 2, 60);
row!(20, fault_20_backend_terminated, database::backend_terminated, 3, 200);
row!(21, fault_21_deadlock, database::deadlock, 1, 30);
row!(21, fault_21_lock_timeout, database::lock_timeout, 1, 60);
row!(21, fault_21_serialization_failure, database::serialization_failure, 2, 60);
row!(22, fault_22_poison_rows, schema::poison_rows, 3, 100);
row!(23, fault_23_partition_dropped, schema::partition_dropped, 2, 60);
row!(23, fault_23_table_changed, schema::table_changed, 3, 60);
row!(24, fault_24_wrong_password, schema::wrong_password, 2, 40);
row!(24, fault_24_table_missing, schema::table_missing, 3, 60);
row!(25, fault_25_a_zombie_flusher_wakes_up, restored::zombie_flusher, 2, 40);
row!(25, fault_25_a_zombie_with_a_batch_in_hand, restored::zombie_with_a_batch_in_hand, 2, 40);
row!(25, fault_25_a_missing_fence_is_noticed, restored::a_missing_fence_is_noticed, 1, 20);
row!(33, fault_33_database_restored, restored::database_restored, 1, 30);
row!(32, fault_32_an_older_versions_log, golden::an_older_versions_log, 3, 30);
row!(34, fault_34_hostile_bytes, hostile_bytes::hostile_bytes, 24, 2_000);
row!(35, fault_35_hostile_producers, hostile_producers::hostile_producers, 4, 200);
row!(41, fault_41_kill_in_a_merge, merges::killed_in_a_merge, 5, 300);
row!(41, fault_41_postgresql_killed_in_a_merge, merges::postgresql_killed, 2, 60);
row!(41, fault_41_lanes_wait_for_a_merge, merges::lanes_wait, 1, 10);
row!(38, fault_38_stated_ids_and_kills, identities::killed_at_each_step, 4, 70);
row!(39, fault_39_the_data_folder_is_lost, lost_folders::acknowledged_after_the_commit, 4, 200);
row!(39, fault_39_with_acks_after_the_sync, lost_folders::acknowledged_before_it, 1, 20);
row!(37, fault_37_clients_that_never_read, never_read::never_read, 1, 10);
