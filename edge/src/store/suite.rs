//! The conformance suite: what every engine must do, written against [`Store`] alone.
//!
//! A test takes a [`Lab`], which holds an open store of some engine and can close and open it again.
//! A further engine needs a constructor there and one more line at the end of this file.

mod access;
mod lab;
mod lists;
mod log;
mod model;
mod once;
mod people;
mod revoke;
mod sessions;

pub(super) use lab::{Lab, Login, claims};

macro_rules! conformance {
    ($engine:ident: $($file:ident { $($test:ident)* })*) => {
        mod $engine {$($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let mut lab = super::Lab::$engine().await;
                super::$file::$test(&mut lab).await;
            }
        )*)*}
    };
}

macro_rules! every_test_for {
    ($engine:ident) => {
        conformance! { $engine:
            sessions {
                a_new_session_loads_whole
                what_is_unknown_is_absent
                an_id_is_used_once
                activity_only_rises
                activity_revives_nothing
                a_replaced_session_ends_in_the_same_step
                another_endpoints_session_is_not_replaced
                parallel_logins_of_one_browser_all_succeed
                sessions_end_by_themselves
                everything_survives_a_restart
                a_backup_is_a_whole_store
            }
            lists {
                sessions_page_newest_first
                users_page_newest_first
                lists_omit_what_has_ended
            }
            people {
                one_person_is_one_user
                a_user_is_as_active_as_their_sessions
                a_deleted_user_is_gone_and_the_person_comes_back_as_another
                whoever_was_revoked_must_prove_themselves
                persons_are_forgotten_in_the_end
            }
            revoke {
                a_revoked_session_stays_dead
                repeating_an_order_gives_the_first_receipt
                there_is_nothing_of_that_name
                marks_end_older_sessions_and_spare_newer_ones
                a_login_under_way_does_not_undo_a_revoke
                create_races_revoke
                many_sessions_end_in_one_step
                a_tombstone_outlives_its_session
                receipts_are_completed
                marks_are_listed
            }
            once {
                a_value_is_taken_exactly_once
                kinds_are_apart
                values_expire
                a_thing_is_seen_once
            }
            access {
                hosts_are_claimed_and_updated
                a_revoked_authtoken_takes_everything_with_it
                api_keys_live_and_die
                providers_come_and_go
                operators_sign_in_for_a_time
            }
            log {
                changes_are_in_order
                a_read_waits_for_news
                a_position_ahead_of_the_log_is_a_gap
                batches_are_bounded
                edges_acknowledge
                a_heartbeat_is_a_write
            }
        }
    };
}

every_test_for!(embedded);

/// Thousands of commits, and no power to lose.
#[test]
fn embedded_agrees_with_the_model() {
    model::check(Lab::embedded_unsynced);
}
