# Bash completion for doppel(1).

_doppel()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "run engines help --version --help" -- "$cur")
        return
    fi
    case $command in
    help) mapfile -t COMPREPLY < <(compgen -W "run engines help" -- "$cur") ;;
    engines) mapfile -t COMPREPLY < <(compgen -W "--json --help" -- "$cur") ;;
    run)
        case $prev in
        --kernel | --initrd | --module) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        --engine)
            mapfile -t COMPREPLY < <(compgen -W "auto emulate translate binary hardware" -- "$cur")
            ;;
        --boot)
            mapfile -t COMPREPLY < <(compgen -W "auto payload 64 32 16 pvh multiboot" -- "$cur") ;;
        --console)
            mapfile -t COMPREPLY < <(compgen -W "stdio null pty file: unix:" -- "$cur") ;;
        --clock) mapfile -t COMPREPLY < <(compgen -W "host virtual" -- "$cur") ;;
        --memory) mapfile -t COMPREPLY < <(compgen -W "64M 256M 512M 1G 2G 4G" -- "$cur") ;;
        --cpus) mapfile -t COMPREPLY < <(compgen -W "1 2 4 8 16" -- "$cur") ;;
        --append | --cpu | --name) ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W "--kernel --initrd --append --module --boot
                --engine --cpu --cpus --memory --clock --name --console --no-reboot --debug-exit
                --stats --json --help" -- "$cur")
            ;;
        esac
        ;;
    esac
}
complete -o filenames -F _doppel doppel
