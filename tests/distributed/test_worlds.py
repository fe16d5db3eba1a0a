"""Worlds of 1 to 6 processes: each is started once and runs all of its checks."""

import pytest

from tests.distributed import checks, commands, newer_keys, replicas, signals, worlds

pytestmark = pytest.mark.slow

WORLDS = {
    1: [checks.fsdp, checks.materialized_before_sharding, checks.as_its_constructor_has_it],
    2: [
        checks.fsdp,
        checks.fsdp_dim_1,
        checks.tp,
        checks.pipeline,
        checks.single_tensors,
        checks.partial_is_refused,
        checks.a_shard_of_another_size_is_refused,
        checks.current_values,
        checks.materialized_before_sharding,
        checks.as_its_constructor_has_it,
        checks.retried,
        checks.offloaded_to_the_cpu,
        checks.gathered_parameters_are_dropped,
        checks.torchs_own_numbers,
        checks.parametrized,
        checks.flat_parameters,
        commands.the_command_tells_mistakes_once,
        commands.the_command_tells_a_full_disk,
        commands.the_command_serves_what_one_process_serves,
        newer_keys.axes_and_copies,
        newer_keys.units_of_shards,
        newer_keys.averages_of_shards,
        newer_keys.all_restore_if_one_fails,
        checks.the_page,
        replicas.replicas_with_seeds_of_their_own,
        replicas.replicas_with_plans_of_their_own,
        replicas.replicas_of_what_no_recipe_fills,
        replicas.replicas_of_stages,
        replicas.outside_of_the_mesh,
        signals.sharded_models_train_on_as_they_were,
        signals.predictions_are_those_of_the_whole_model,
        signals.activations_in_parts_are_refused,
        signals.sharded_too_early_is_told,
    ],
    4: [
        checks.fsdp,
        checks.as_its_constructor_has_it,
        checks.hsdp,
        checks.fsdp_and_tp,
        checks.single_tensors,
        newer_keys.axes_and_copies,
        newer_keys.units_of_shards,
        newer_keys.all_restore_if_one_fails,
        checks.checkpoints,
        checks.one_safetensors_file,
        replicas.replicas_that_agree,
        replicas.replicas_that_do_not_agree,
    ],
    6: [checks.fsdp_and_tp, checks.single_tensors],
}


@pytest.mark.parametrize("size", WORLDS)
def test_world(size, tmp_path):
    worlds.run(WORLDS[size], size, tmp_path)
