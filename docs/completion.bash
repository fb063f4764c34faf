# Completes `python -m asl_min...` and `python -m reproduce...`, also behind accelerate launch and
# torchrun: scripts, their options, config keys, else files.
#   source docs/completion.bash
# Made by `python docs/build.py` from the scripts.

_asl_min() {
  local words="" module="" i
  for ((i = 1; i < COMP_CWORD - 1; i++)); do
    [[ ${COMP_WORDS[i]} == -m ]] && module=${COMP_WORDS[i + 1]}
  done
  case ${COMP_WORDS[0]##*/} in
    asl-rounds) module=asl_min.rounds ;;
    asl-train-prompt-generator) module=asl_min.train_prompt_generator ;;
    asl-train-reward-model) module=asl_min.train_reward_model ;;
    asl-train-policy) module=asl_min.train_policy ;;
    asl-evaluate) module=asl_min.evaluate ;;
    asl-ask) module=asl_min.tools.ask ;;
    asl-report) module=asl_min.tools.report ;;
    asl-serve) module=asl_min.tools.serve ;;
    asl-share) module=asl_min.tools.share ;;
    asl-plan) module=asl_min.tools.plan ;;
    asl-base-measures) module=asl_min.tools.base_measures ;;
    asl-preflight) module=asl_min.tools.preflight ;;
    asl-population) module=asl_min.world.tiny.population ;;
    asl-ingest) module=asl_min.search.ingest ;;
    asl-index) module=asl_min.search.disk ;;
    asl-search-server) module=asl_min.search.server ;;
    asl-hub) module=asl_min.search.hub ;;
    asl-people) module=asl_min.real.people ;;
  esac
  case $module in
    asl_min.evaluate) words="--help --config --run --round --adapter --dry-run --quiet --json $_asl_min_keys" ;;
    asl_min.real.people) words="--help --out --folder --dry-run --quiet --json" ;;
    asl_min.rounds) words="--help --config --run --prepare --dry-run --quiet --json $_asl_min_keys" ;;
    asl_min.search.disk) words="--help --corpus --index --encoder --dry-run --quiet --json" ;;
    asl_min.search.hub) words="--help --out --per-set --dry-run --quiet --json" ;;
    asl_min.search.ingest) words="--help --out --words --strict --dry-run --quiet --json" ;;
    asl_min.search.server) words="--help --index --host --port --top-k --dry-run --quiet --json" ;;
    asl_min.tools.ask) words="--help --compare --config --dry-run --quiet --json $_asl_min_keys" ;;
    asl_min.tools.base_measures) words="--help --base --out --dry-run --quiet --json $_asl_min_keys" ;;
    asl_min.tools.plan) words="--help --gpus --nodes --fsdp --gib --sample-rate --train-rate --dry-run --quiet --json $_asl_min_keys" ;;
    asl_min.tools.preflight) words="--help --config --adapter --diagram --tasks --minutes --dry-run --quiet --json $_asl_min_keys" ;;
    asl_min.tools.report) words="--help --claims --beside --dry-run --quiet --json" ;;
    asl_min.tools.serve) words="--help --compare --port --config --dry-run --quiet --json $_asl_min_keys" ;;
    asl_min.tools.share) words="--help --out --push --licence --dry-run --quiet --json" ;;
    asl_min.train_policy) words="--help --config --run --round --dry-run --quiet --json $_asl_min_keys" ;;
    asl_min.train_prompt_generator) words="--help --config --run --round --dry-run --quiet --json $_asl_min_keys" ;;
    asl_min.train_reward_model) words="--help --config --run --round --dry-run --quiet --json $_asl_min_keys" ;;
    asl_min.world.tiny.population) words="--help --stages --out --again --jobs --dry-run --quiet --json" ;;
    reproduce.claims) words="--help --results --dry-run --quiet --json" ;;
    reproduce.digest) words="--help --dry-run --quiet --json" ;;
    reproduce.figures) words="--help --results --dry-run --quiet --json" ;;
    reproduce.league) words="--help --results --rates --dry-run --quiet --json" ;;
    reproduce.preregistration) words="--help --file --results --dry-run --quiet --json" ;;
    reproduce.ratings) words="--help --runs --folder --seed --results --dry-run --quiet --json" ;;
    reproduce.real) words="--help --results --choice --dry-run --quiet --json" ;;
    reproduce.run) words="--help --config --run --seed --dry-run --quiet --json $_asl_min_keys" ;;
    reproduce.runner) words="--help --profile --system --jobs --arms --preregistered --runs --results --dry-run --quiet --json" ;;
    reproduce.verify) words="--help --runs --dry-run --quiet --json" ;;
  esac
  [[ ${COMP_WORDS[COMP_CWORD - 1]} == -m ]] && words="asl_min.evaluate asl_min.real.people asl_min.rounds asl_min.search.disk asl_min.search.hub asl_min.search.ingest asl_min.search.server asl_min.tools.ask asl_min.tools.base_measures asl_min.tools.plan asl_min.tools.preflight asl_min.tools.report asl_min.tools.serve asl_min.tools.share asl_min.train_policy asl_min.train_prompt_generator asl_min.train_reward_model asl_min.world.tiny.population reproduce.claims reproduce.digest reproduce.figures reproduce.league reproduce.preregistration reproduce.ratings reproduce.real reproduce.run reproduce.runner reproduce.verify"
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
  [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
_asl_min_keys="recipe= arm= seed= rounds= round_rollouts= frozen= base_model= prompts= corpus= questions= judgments= oracle= search_url= top_k= policy_tasks= labelled_questions= labelled_judgments= inject_round= inject_share= oracle_from_round= max_turns= max_turn_tokens= max_episode_tokens= temperature= generation_batch_size= backend= server_url= server_folder= server_tolerance= quantization= gradient_checkpointing= adapters= lora_rank= learning_rate= clip= ratio_cap= kl_coef= kl_reference= minibatches= micro_batch_tokens= max_grad_norm= mixed_precision= save_every= threads= trackers= pg_prompts= pg_samples= pg_max_steps= attempts= verify_samples= verify_threshold= max_tasks_first= max_tasks= fresh_share= grm_prompts= grm_samples= grm_max_steps= grm_plateau= policy_prompts= policy_samples= policy_max_steps= policy_plateau= plateau_threshold= width_rounds= meta_prompts= eval_split= eval_per_hop= eval_greedy= eval_samples= eval_judgments= eval_tasks="
complete -o default -F _asl_min python python3 accelerate torchrun asl-rounds asl-train-prompt-generator asl-train-reward-model asl-train-policy asl-evaluate asl-ask asl-report asl-serve asl-share asl-plan asl-base-measures asl-preflight asl-population asl-ingest asl-index asl-search-server asl-hub asl-people
