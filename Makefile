# `make demo` and `make test` are all one needs to know; each says what it does while it does it.

demo: ## Build Ekiden, start it, deploy examples/python-flask from source and ask it a question
	@examples/demo/up

test: ## Everything that CI runs
	@.ci/run

bench: ## The benchmarks, side by side with their peers
	@bench/run

bench-edge: ## The edge, side by side with nginx and HAProxy
	@bench/edge/run

bench-scale: ## Scaling, simulated side by side with the rules of Knative and App Runner
	@bench/scale/run

bench-logs: ## The log store, side by side with zstd and zgrep, and what watching and writing cost
	@bench/logs/run

bench-registry: ## The built-in registry, side by side with docker-registry
	@bench/registry/run

demo-down: ## Remove every trace of the demo
	@examples/demo/down

bench-builds: ## Builds from source, side by side with buildah
	@bench/builds/run

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

.PHONY: demo test bench bench-edge bench-scale bench-registry bench-logs bench-builds demo-down help
