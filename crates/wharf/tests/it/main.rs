//! The product as its users meet it: the built binary, real engines, real clients.
//!
//! One fleet serves the tests that leave engines alone; those that break engines have one of their own, one at a time.
//! Labs go with the guards that hold them, so that nothing stays, whatever fails.

mod api;
mod builds;
mod cli;
mod clients;
mod compose;
mod containers;
mod differences;
mod events;
mod failures;
mod fleet;
mod intruders;
mod kernel;
mod lists;
mod networks;
mod objects;
mod options;
mod placement;
mod streams;
mod subcommands;
mod tls;
mod traffic;
mod wiring;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::fleet::Fleet;

/// A test on a fleet.
type Test = fn(&Fleet) -> anyhow::Result<()>;

/// Names tests after their functions.
macro_rules! tests {
    ($($test:path),* $(,)?) => { [$((stringify!($test), $test as Test)),*] };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let peaceful = tests![
        api::bad_requests_get_docker_shaped_errors,
        api::what_web_pages_can_send_is_refused,
        api::what_is_not_served_says_so,
        api::a_newer_or_older_client_is_told,
        api::an_older_engine_is_not_asked_for_what_it_would_drop,
        api::plugins_are_their_nodes,
        clients::docker_py_works_as_on_one_engine,
        subcommands::every_subcommand_does_what_it_does_on_one_engine,
        api::ping_has_the_headers_that_clients_look_for,
        differences::answers_differ_from_an_engines_only_as_documented,
        builds::a_built_image_runs_on_every_node,
        builds::a_tag_is_moved_everywhere_and_removed_everywhere,
        builds::a_build_begins_with_an_image_of_any_node,
        builds::a_container_is_committed,
        builds::a_build_goes_where_its_arguments_say,
        builds::buildkit_is_reached,
        builds::an_image_is_saved_and_loaded,
        compose::a_project_goes_up_scales_and_goes_down,
        compose::links_of_the_first_version_work,
        containers::exit_codes_come_through,
        containers::a_container_answers_to_all_of_its_names,
        containers::names_are_unique_in_the_fleet,
        containers::the_life_of_a_container,
        containers::files_are_copied_both_ways,
        containers::execs_are_found_without_a_memory_of_them,
        events::past_and_live_events_are_one_stream,
        events::events_are_filtered,
        lists::every_filter_of_ps_works,
        lists::images_of_the_fleet_are_one_list,
        networks::containers_on_different_hosts_find_and_reach_each_other,
        networks::networks_are_apart_and_are_joined_and_left_at_run_time,
        networks::names_follow_starts_and_stops,
        networks::aliases_of_a_connect_before_the_start_are_known_everywhere,
        networks::links_are_names_and_variables_between_hosts,
        networks::an_address_places_its_container_and_is_had_once,
        networks::an_internal_network_reaches_only_itself,
        networks::ports_are_published_of_networked_containers,
        networks::an_encrypted_network_carries_what_is_sent,
        networks::bad_networks_are_refused_and_leave_nothing,
        networks::a_network_may_have_ipv6_addresses_too,
        networks::networks_without_containers_are_pruned,
        networks::what_happens_to_networks_is_told_once,
        networks::the_command_line_shows_networks_and_finds_nothing_wrong,
        networks::a_compose_project_spreads_over_the_nodes,
        objects::networks_tie_containers_to_their_node,
        objects::pruning_cleans_every_node,
        objects::only_volumes_without_a_name_are_pruned_unless_asked,
        objects::a_container_has_several_networks_from_the_start,
        objects::volumes_tie_containers_to_their_node,
        placement::containers_are_spread,
        placement::constraints_are_kept,
        placement::a_port_is_had_once_per_node,
        placement::parallel_creates_are_even_and_keep_ports_apart,
        placement::containers_keep_apart_and_together,
        placement::processors_are_reserved_by_shares_as_the_predecessor_did,
        placement::two_hundred_creates_at_once_are_spread_evenly,
        placement::a_refusal_names_every_node,
        streams::clients_attach_to_what_runs_and_what_is_started,
        streams::standard_input_comes_through_whole,
        streams::raw_streams_need_no_upgrade,
        streams::logs_are_followed,
        streams::terminals_work,
        streams::waits_of_clients_that_left_are_ended,
        options::bad_configurations_are_told_of,
        cli::placements_are_explained,
        cli::the_predecessors_commands_are_understood,
        tls::only_clients_with_a_certificate_are_served,
        tls::engines_are_dialled_with_tls,
        options::managers_do_not_share_what_is_one_managers,
        intruders::networks_are_apart_on_a_node_and_between_nodes,
        intruders::a_container_that_forges_its_address_reaches_nobody,
        intruders::who_has_no_good_token_does_not_join,
        intruders::who_has_no_certificate_of_the_fleet_is_told_nothing,
    ];
    let breaking = tests![
        failures::a_hung_node_slows_nobody_down,
        failures::a_dead_node_comes_back_as_it_is,
        failures::a_create_whose_answer_is_lost_leaves_nothing,
        failures::a_killed_manager_disturbs_nothing,
        failures::a_client_that_hangs_up_leaves_nothing,
        cli::labels_of_nodes_outlive_the_manager_and_are_constraints,
        networks::a_container_leaves_a_network_while_its_node_is_away,
        failures::nodes_come_and_go_with_a_file,
        intruders::a_foreign_host_with_the_same_tunnel_reaches_nobody,
        intruders::hosts_beside_the_fleet_reach_no_container,
        intruders::an_agent_refuses_a_manager_that_its_token_does_not_name,
        intruders::an_agent_is_neither_seen_nor_touched_through_the_fleet,
        intruders::pruning_leaves_networks_in_use_whole,
        intruders::a_nodes_token_is_seen_by_nobody_and_is_good_once,
        wiring::agents_and_the_manager_die_and_no_packet_is_lost,
        wiring::a_newer_manager_replaces_its_agents_and_no_packet_is_lost,
        wiring::nodes_managers_and_agents_die_in_any_order,
        wiring::an_engine_dies_and_its_containers_are_on_their_networks_again,
        wiring::containers_outlive_their_engine_where_it_lets_them,
        wiring::containers_restart_and_talk_with_the_manager_away,
        wiring::a_network_that_was_removed_is_removed_from_a_node_that_was_away,
        wiring::what_others_do_to_kernels_is_put_right,
    ];

    let fleets = Fleets::default();
    let tests = peaceful.map(|test| ("e2ea", test)).into_iter().chain(breaking.map(|test| ("e2eb", test)));
    let trials = tests.map(|(lab, (name, test))| {
        let fleets = fleets.clone();
        Trial::test(name, move || fleets.run(lab, test))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    fleets.end();
    conclusion.exit_code()
}

/// The fleets that tests have asked for.
#[derive(Clone, Default)]
struct Fleets {
    peaceful: Arc<Mutex<Option<Arc<Fleet>>>>,
    breaking: Arc<Mutex<Option<Arc<Fleet>>>>,
}

impl Fleets {
    fn run(&self, lab: &str, test: Test) -> Result<(), Failed> {
        let slot = if lab == "e2eb" { &self.breaking } else { &self.peaceful };
        let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let fleet = match &*held {
            Some(fleet) => Arc::clone(fleet),
            None => {
                let fleet = Fleet::up(lab).map_err(|error| format!("the lab {lab} does not come up: {error:#}"))?;
                Arc::clone(held.insert(Arc::new(fleet)))
            }
        };
        // Tests that break engines run one after the other: they hold the slot.
        let _held = if lab == "e2eb" { Some(held) } else { None };
        test(&fleet).map_err(|error| Failed::from(format!("{error:#}\n{}", fleet.log_tail())))
    }

    fn end(&self) {
        for slot in [&self.peaceful, &self.breaking] {
            drop(slot.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}
