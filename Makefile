# Everything that a newcomer needs: make demo, make test. Each installs what it needs, and says so before.

CARGO ?= cargo
# What building needs: static binaries the C library's archive, the fuzzer a C++ compiler.
BUILD_PACKAGES = gcc g++ libc6-dev
# What real engines, and the images made without a registry, need.
LAB_PACKAGES = docker.io iptables iproute2 busybox-static redis-server docker-compose curl procps

.PHONY: help demo test fuzz bench lint build images clean packages

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

demo: packages images ## Three real engines on this machine, DockerCoins, the page with its graph
	scripts/demo

test: packages lint ## All tests: pure logic, the lab, real engines with real clients
	scripts/test

bench: packages build ## Measure: latency, creates per second, memory, networks
	@scripts/install-packages iperf3
	scripts/bench

fuzz: packages ## Feed malformed requests to what reads them, a minute each
	scripts/fuzz 60

lint: packages ## Formatting, clippy, documentation
	$(CARGO) fmt --all --check
	cd fuzz && $(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --quiet

build: packages ## The release binary
	$(CARGO) build --release --workspace

images: packages ## What DockerCoins' Dockerfiles copy
	examples/dockercoins/build

clean: ## Remove what was built
	$(CARGO) clean
	rm -rf examples/dockercoins/redis/root

packages:
	@scripts/install-packages $(BUILD_PACKAGES) $(LAB_PACKAGES)
