# Bash completion for doppel(1).

_doppel_container()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[2]}
    local options="--root --runtime --help"
    if [ "$COMP_CWORD" -eq 2 ]; then
        mapfile -t COMPREPLY < <(compgen -W "run ps logs exec stop kill rm images prune --help" \
            -- "$cur")
        return
    fi
    case $prev in
    --network) mapfile -t COMPREPLY < <(compgen -W "host none user" -- "$cur"); return ;;
    --tty) mapfile -t COMPREPLY < <(compgen -W "yes no auto" -- "$cur"); return ;;
    --signal) mapfile -t COMPREPLY < <(compgen -A signal -- "$cur"); return ;;
    --root | --runtime | --volume) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    esac
    case $command in
    run) options="$options --name --detach --rm --image --entrypoint --env --workdir --user
        --hostname --tty --volume --read-only --network --memory --cpus --pids --cap-add --cap-drop
        --copy --log-limit --unpack-limit" ;;
    ps) options="$options --all --json --quiet" ;;
    logs) options="$options --follow --tail --timestamps" ;;
    exec) options="$options --env --tty --user --workdir" ;;
    stop) options="$options --time --signal" ;;
    kill) options="$options --signal" ;;
    rm) options="$options --force --all" ;;
    images) options="$options --json" ;;
    esac
    case $cur in
    -*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur") ;;
    *)
        if [ "$command" = run ]; then
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -W "$(doppel container ps --all --quiet 2>/dev/null)" \
                -- "$cur")
        fi
        ;;
    esac
}

_doppel()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
    local own=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "run verify container engines help \
            --version --help" -- "$cur")
        return
    fi
    case $command in
    help) mapfile -t COMPREPLY < <(compgen -W "run verify container engines help" -- "$cur") ;;
    container) _doppel_container ;;
    engines) mapfile -t COMPREPLY < <(compgen -W "--json --help" -- "$cur") ;;
    run | verify)
        [ "$command" = verify ] && own="--against --step --checkpoint --plant"
        case $prev in
        --kernel | --initrd | --module) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        --engine | --against)
            mapfile -t COMPREPLY < <(compgen -W "auto emulate translate binary hardware" -- "$cur")
            ;;
        --boot)
            mapfile -t COMPREPLY < <(compgen -W "auto payload 64 32 16 pvh multiboot" -- "$cur") ;;
        --console)
            mapfile -t COMPREPLY < <(compgen -W "stdio null pty file: unix:" -- "$cur") ;;
        --clock) mapfile -t COMPREPLY < <(compgen -W "host virtual" -- "$cur") ;;
        --memory) mapfile -t COMPREPLY < <(compgen -W "64M 256M 512M 1G 2G 4G" -- "$cur") ;;
        --cpus) mapfile -t COMPREPLY < <(compgen -W "1 2 4 8 16" -- "$cur") ;;
        --apic) mapfile -t COMPREPLY < <(compgen -W "auto machine kernel" -- "$cur") ;;
        --direct) mapfile -t COMPREPLY < <(compgen -W "auto never always" -- "$cur") ;;
        --code-cache) mapfile -t COMPREPLY < <(compgen -W "1M 4M 24M" -- "$cur") ;;
        --append | --cpu | --name | --step | --checkpoint | --plant) ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W "--kernel --initrd --append --module --boot
                --engine --switch-every --cpu --cpus --memory --clock --rng --name --console --no-reboot --debug-exit
                --stats --json --perf-map --code-cache --apic --direct --help $own" -- "$cur")
            ;;
        esac
        ;;
    esac
}
complete -o filenames -F _doppel doppel
