"""``python -m glpn_deploy`` is ``glpn``."""

from glpn_deploy.cli.umbrella import main

if __name__ == "__main__":
    main()
