#!/usr/bin/env bash
# Trains and publishes a prior and a restorer of 64 pixels and one of 128 that grows from it, the chain of docs/training.md:
#   scripts/launch/train_release.sh FACES VALIDATION_FACES OUTPUT "what the faces are and their terms"
# Some hours on one core. The same command continues: what is complete is passed over. Further options of all three
# trainings stand behind, such as --run.wandb off.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=${PYTHON:-.venv/bin/python}
faces=$1 validation=$2 output=$3 data=$4
shift 4

fit() { # NAME OPTIONS…
    local name=$1
    shift
    "$python" -m train fit "$@" --data.faces "$faces" --data.validation_faces "$validation" --run.folder "$output/$name"
}

fit prior_start --config configs/prior_64.yaml --run.total_images 370000 "$@"
# A discriminator that R1 holds less tightly, once there are faces (docs/training.md).
fit prior --config configs/prior_64.yaml --model.init_args.regularization.r1_weight 0.1 \
    --model.init_args.start "$output/prior_start" --run.total_images 256000 "$@"
# A tenth of the images is not degraded at all: what is sharp already stays so. varied: noise or JPEG alone go too.
restoration=(--config configs/restoration_64.yaml --data.degraded "$faces" --data.synthetic_share 0.9
    --model.init_args.degradation varied)
fit fidelity "${restoration[@]}" --config configs/recipes/fidelity.yaml \
    --model.init_args.start "$output/prior" --run.total_images 300000 "$@"
fit finish "${restoration[@]}" --config configs/recipes/finish.yaml \
    --model.init_args.start "$output/fidelity" "$@"
fit likeness "${restoration[@]}" --config configs/recipes/likeness.yaml \
    --model.init_args.start "$output/finish" "$@"
publish() { # RUN OTHER SHARE_OF_OTHER FOLDER
    "$python" -m scripts.publish_weights --prior "$output/prior" --restoration-run "$1" --interpolated_with "$2" \
        --interpolated_share "$3" --faces "$validation" --data "$data" --output "$4" --overwrite
}
# Between both: most of the likeness, nearly all of the fidelity; more of both from there on (docs/training.md).
[ -e "$output/mixed/gpen_64.safetensors" ] || publish "$output/likeness" "$output/finish" 0.4 "$output/mixed"
fit likeness_finish "${restoration[@]}" --config configs/recipes/likeness.yaml \
    --config configs/recipes/likeness_finish.yaml --model.init_args.start "$output/mixed/gpen_64.safetensors" "$@"
publish "$output/likeness_finish" "$output/finish" 0.2 "$output/weights"
# Twice the pixels from there: the same restorer, grown.
large=("${restoration[@]}" --model.init_args.architecture.resolution 128)
fit fidelity_128 "${large[@]}" --config configs/recipes/fidelity.yaml \
    --model.init_args.start "$output/weights/gpen_64.safetensors" --run.total_images 36000 "$@"
fit likeness_128 "${large[@]}" --config configs/recipes/likeness.yaml --config configs/recipes/likeness_finish.yaml \
    --model.init_args.start "$output/fidelity_128" "$@"
"$python" -m scripts.publish_weights --restoration-run "$output/likeness_128" --numbers int8 --faces "$validation" \
    --data "$data" --output "$output/weights" --overwrite
