set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?not started by sbatch}"

say() { printf '%s axis-slurm: %s\n' "$(date +%H:%M:%S)" "$*" >&2; }

# Everything of this job alone: other jobs of yours may run Ray on the same nodes.
private="$PWD/.axis-slurm-$SLURM_JOB_ID"
session="/tmp/axis-$SLURM_JOB_ID"
port=$((20000 + SLURM_JOB_ID % 4000 * 3))
dashboard_port=$((port + 1))
client_port=$((port + 2))
# A node whose step is ended drains first: its workers take a checkpoint and leave.
export RAY_USAGE_STATS_ENABLED=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="$CHECKPOINT_SECONDS"

steps=()      # background job steps, the head first
driver=       # the driver, while it runs
stopped_by=   # the signal that ends this job early

end_steps() {
    # Workers first; a step whose srun gets SIGTERM ends its Ray node.
    local index pid deadline=$((SECONDS + 30))
    for ((index = ${#steps[@]} - 1; index >= 0; index--)); do
        kill -TERM "${steps[index]}" 2>/dev/null || true
    done
    for pid in "${steps[@]}"; do
        while kill -0 "$pid" 2>/dev/null; do
            if ((SECONDS >= deadline)); then
                say "step $pid did not end within 30 s; it is killed"
                kill -KILL "$pid" 2>/dev/null || true
                break
            fi
            sleep 0.2
        done
    done
}

clean_up() {
    trap - EXIT TERM USR1
    end_steps
    rm -rf -- "$private" "$session"
}

on_signal() {
    stopped_by="$1"
    say "$1: a last checkpoint, then the end"
    # Before there is a driver there is nothing to save.
    if [[ -z $driver ]]; then exit 6; fi
    kill -TERM "$driver" 2>/dev/null || true
}

wait_for() {
    # A signal ends `wait` as well; what is waited for is then still there.
    local code
    while :; do
        wait "$1" && code=0 || code=$?
        kill -0 "$1" 2>/dev/null || return "$code"
    done
}

trap clean_up EXIT
trap 'on_signal TERM' TERM
trap 'on_signal USR1' USR1

# Without the token nobody talks to this cluster; it lies in a folder of yours that all nodes see.
umask 077
mkdir -p "$private"
python3 -c 'import secrets; print(secrets.token_hex(32), end="")' > "$private/token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$private/token"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_node="${nodes[0]}"
if ((${#nodes[@]} < FEWEST_NODES)); then
    say "${#nodes[@]} nodes are fewer than the $FEWEST_NODES that the plan needs"
    exit 3
fi
# The first of its addresses; AXIS_HEAD_IP names another one, such as that of a faster network.
read -r head_ip _ < <(srun --overlap --nodes=1 --ntasks=1 -w "$head_node" hostname -I)
head_ip="${AXIS_HEAD_IP:-$head_ip}"
address="$head_ip:$port"

# The head holds no part of the gang: no CPUs, no GPUs. It shares the first node with a worker.
say "head on $head_node ($address), ${#nodes[@]} nodes"
RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 srun --overlap --nodes=1 --ntasks=1 --cpus-per-task=1 --gres=none -w "$head_node" \
    ray start --head --block --node-ip-address="$head_ip" --port="$port" \
    --dashboard-host=127.0.0.1 --dashboard-port="$dashboard_port" \
    --ray-client-server-port="$client_port" --temp-dir="$session" \
    --num-cpus=0 --num-gpus=0 --object-store-memory="$OBJECT_STORE_BYTES" \
    "${AGENT_PORTS[@]}" > "$private/head.log" 2>&1 &
steps+=("$!")

deadline=$((SECONDS + START_SECONDS))
until ray health-check --address "$address" > /dev/null 2>&1; do
    if ! kill -0 "${steps[0]}" 2>/dev/null || ((SECONDS >= deadline)); then
        say "the head did not come up within $START_SECONDS s:"
        tail -n 20 "$private/head.log" >&2
        exit 1
    fi
    sleep 1
done

# A node that is lost takes no other with it: the run goes on with the rest, or waits for it.
srun --overlap --no-kill --kill-on-bad-exit=0 \
    --nodes="${#nodes[@]}" --ntasks="${#nodes[@]}" --ntasks-per-node=1 \
    --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    ray start --block --address="$address" "${NODE_OPTIONS[@]}" \
    --object-store-memory="$OBJECT_STORE_BYTES" "${AGENT_PORTS[@]}" \
    > "$private/workers.log" 2>&1 &
steps+=("$!")

# In the background, as all that takes time: a shell hears no signal while it waits otherwise.
python3 -m orchestrator.runtime.joined "$((${#nodes[@]} + 1))" \
    --address "$address" --timeout "$START_SECONDS" > "$private/joined" &
wait_for "$!" || true
read -r joined < "$private/joined" || joined=0
if ((joined < ${#nodes[@]} + 1)); then
    say "$((joined - 1)) of ${#nodes[@]} nodes joined within $START_SECONDS s; what Ray said there:"
    tail -n 40 "$private/workers.log" >&2
    # An elastic run goes on with those that are there.
    if ((joined < FEWEST_NODES + 1)); then exit 1; fi
fi

"${RUN[@]}" --address "$address" &
driver=$!
wait_for "$driver" && code=0 || code=$?
driver=

# The time limit came before the end: the same job goes on, from the checkpoint just taken.
if [[ $stopped_by == USR1 && $code == 6 ]]; then
    if ((${SLURM_RESTART_COUNT:-0} < MOST_REQUEUES)); then
        say "requeued: the run goes on from its last checkpoint"
        scontrol requeue "$SLURM_JOB_ID"
    else
        say "not requeued again after ${SLURM_RESTART_COUNT:-0} times; sbatch it again to go on"
    fi
fi
exit "$code"
