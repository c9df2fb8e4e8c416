# A publisher with a seedbox, and two agents that can look up no name. The origin dies: the second agent gets everything from the first.
#   nix build ./nixos-module#checks.x86_64-linux.vm
#   nix-build -E '(import <nixpkgs> { }).testers.runNixOSTest ./nixos-module/vm-test.nix'
{ lib, pkgs, ... }:

let
  # RFC 8032, section 7.1, tests 1 and 2: the whole world knows these secrets.
  channelKey = "test-channel-1:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
  channelSecret = "test-channel-1:nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";
  cacheKey = "test-cache-1:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";
  cacheSecret = "test-cache-1:TM0Imyj/ltqdtsNG7BFOD1uKMZ81q6Yk2oz27U+4pvs9QBfD6EOJWpK3CqdNG368nJgszy7ElozAzVXxKvRmDA==";

  # Nothing that an agent's system contains already.
  numbers = pkgs.runCommand "numbers" { } "seq 1 3000000 > $out";
  wanted = pkgs.runCommand "wanted" { } "mkdir $out; ln -s ${numbers} $out/numbers; seq 1 1000 > $out/own";

  address = node: node.networking.primaryIPAddress;

  machine = {
    imports = [ ./default.nix ];
    virtualisation = {
      # A store of its own: what is not installed is not there.
      useNixStoreImage = true;
      writableStore = true;
    };
    networking.nameservers = lib.mkForce [ "192.0.2.53" ];
    networking.firewall.extraCommands = ''
      iptables -I OUTPUT -p udp --dport 53 -j DROP
      iptables -I OUTPUT -p tcp --dport 53 -j DROP
    '';
  };

  agent = peers: { nodes, ... }: {
    imports = [ machine ];
    environment.systemPackages = [ pkgs.jq pkgs.python3 ];
    networking.firewall.allowedTCPPorts = [ 8000 ];
    users.users.somebody.isNormalUser = true;
    nix.settings.trusted-public-keys = [ cacheKey ];
    services.narswarm.agent = {
      enable = true;
      openFirewall = true;
      channels = [
        { name = "test"; key = channelKey; manifest = "http://${address nodes.origin}/"; }
      ];
      settings.swarm.peers = map (peer: "${address nodes.${peer}}:6881") peers;
    };
  };
in
{
  name = "narswarm";

  nodes = {
    origin = {
      imports = [ machine ];
      virtualisation.additionalPaths = [ wanted ];
      environment.etc = {
        "keys/channel".text = channelSecret;
        "keys/cache".text = cacheSecret;
      };
      services.narswarm.publisher = {
        enable = true;
        channel = "test";
        closure = [ wanted ];
        secretKeyFile = "/etc/keys/channel";
        narinfoKeyFile = "/etc/keys/cache";
        startAt = [ ];
      };
      services.narswarm.seedbox = {
        enable = true;
        openFirewall = true;
        share = "lan";
        channels = [
          { name = "test"; key = channelKey; manifest = "/var/lib/narswarm-publisher"; }
        ];
        settings.hold = { source = "store"; location = "local"; };
      };
      services.nginx = {
        enable = true;
        virtualHosts.default = { default = true; root = "/var/lib/narswarm-publisher"; };
      };
      networking.firewall.allowedTCPPorts = [ 80 ];
    };

    alice = agent [ "origin" ];
    bob = agent [ "origin" "alice" ];
  };

  testScript = { nodes, ... }: ''
    import json
    import time

    WANTED, NUMBERS = "${wanted}", "${numbers}"


    def status(agent):
        return json.loads(agent.succeed("narswarm status --json"))


    def realise(agent):
        """Fetches as somebody whom the daemon does not trust; returns the seconds."""
        agent.fail(f"test -e {WANTED}")
        start = time.monotonic()
        agent.succeed(f"NIX_REMOTE=daemon su somebody -c 'nix-store --realise {WANTED}'")
        agent.succeed(f"test $(tail -n 1 {WANTED}/numbers) = 3000000", f"nix-store --verify-path {WANTED} {NUMBERS}")
        return time.monotonic() - start


    with subtest("the publisher signs, the box seeds"):
        origin.start()
        origin.wait_for_unit("multi-user.target")
        origin.succeed("systemctl start narswarm-publisher.service")
        origin.succeed("test -s /var/lib/narswarm-publisher/manifest")
        # The web server is somebody else, and can read all of it; nobody can read the keys.
        origin.succeed("su nginx -s /bin/sh -c 'find /var/lib/narswarm-publisher -type f -exec cat {} +' > /dev/null")
        origin.succeed("systemctl restart narswarm-seedbox.service")
        origin.wait_for_unit("narswarm-seedbox.service")
        origin.wait_for_open_port(6881)

    with subtest("the agents follow, and are all that Nix knows"):
        for agent in [alice, bob]:
            agent.start()
            agent.wait_for_unit("narswarm-agent.service")
            agent.wait_until_succeeds("narswarm status --json | jq -e '.channels[0].state == \"ok\"'", timeout=60)
            agent.succeed("grep -x 'substituters = http://127.0.0.1:8642' /etc/nix/nix.conf")
            agent.fail("grep trusted-public-keys /etc/nix/nix.conf | grep test-channel")
            agent.fail("getent hosts cache.nixos.org")
            assert "DynamicUser=yes" in agent.succeed("systemctl show -p DynamicUser narswarm-agent")

    with subtest("dead DNS costs nothing"):
        assert realise(alice) < 30
        assert status(alice)["bytes"]["swarm"] > 0

    with subtest("systemd holds the port while the agent is away"):
        alice.succeed("systemctl kill --signal=KILL narswarm-agent.service")
        alice.succeed("curl --fail --silent --max-time 30 http://127.0.0.1:8642/nix-cache-info | grep StoreDir")
        alice.wait_for_unit("narswarm-agent.service")
        alice.wait_until_succeeds("narswarm status --json | jq -e '.offer.paths >= 2'", timeout=60)

    with subtest("the origin dies, the crowd goes on"):
        origin.crash()
        assert realise(bob) < 60
        assert status(bob)["bytes"]["swarm"] > 0
        assert status(bob)["bytes"]["upstream"] == 0

    with subtest("a broken agent is gone past"):
        bob.succeed("systemctl stop narswarm-agent.socket narswarm-agent.service")
        bob.succeed(f"nix-store --delete {WANTED} {NUMBERS}")
        alice.succeed(f"nix --extra-experimental-features nix-command copy --to file:///tmp/cache {WANTED}")
        alice.succeed("systemd-run python3 -m http.server --directory /tmp/cache 8000")
        alice.wait_for_open_port(8000)
        bob.succeed(f"timeout 60 nix-store --realise {WANTED} --option substituters http://${address nodes.alice}:8000")
  '';
}
