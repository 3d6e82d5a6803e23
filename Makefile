# A thin front to Meson, and the commands that the README names.
BUILD ?= build
JOBS ?= 2
GUESTS = $(BUILD)/guests
DOPPEL = $(BUILD)/src/cli/doppel
SANITIZE = $(BUILD)/sanitize
INSTALLER = $(GUESTS)/debian-installer-12-netboot-amd64/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64

.PHONY: all boot check check-slow fuzz fuzz-cpu bench install format lint clean \
        build deps guests sanitize

all: build

build: $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS)

$(BUILD)/build.ninja:
	@meson setup $(BUILD)

# What sanitizers watch: the fuzzers, in a build of their own.
sanitize: $(SANITIZE)/build.ninja
	@ninja -C $(SANITIZE) -j $(JOBS) fuzzers

$(SANITIZE)/build.ninja:
	@meson setup $(SANITIZE) -Dsanitize=true

# Boots Debian's stock kernel to a shell on this terminal. `poweroff -f` ends it, and Ctrl-A x.
boot:
	@tools/deps build guests
	@$(MAKE) --no-print-directory build
	@tools/fetch $(GUESTS) linux-image-cloud-amd64 busybox-static
	@tools/pack-initramfs $(GUESTS)/initramfs.gz $(GUESTS)/busybox-static/bin/busybox tools/init
	@$(DOPPEL) run --kernel $(GUESTS)/linux-image-cloud-amd64/boot/vmlinuz-* \
	    --initrd $(GUESTS)/initramfs.gz --append console=ttyS0 --memory 512M --no-reboot \
	    $(BOOT_OPTIONS) || [ $$? = 4 ]

# Everything the tests need; the guests that they boot are Debian's packages, used unmodified.
deps:
	@tools/deps build guests check

guests:
	@tools/fetch $(GUESTS) linux-image-cloud-amd64 busybox-static memtest86+ \
	    debian-installer-12-netboot-amd64 linux-image-686-pae:i386 busybox-static:i386; \
	    fetched=$$?; \
	    tools/pack-initramfs $(GUESTS)/initramfs.gz \
	        $(GUESTS)/busybox-static/bin/busybox tools/init && \
	    tools/pack-initramfs $(GUESTS)/initramfs32.gz \
	        $(GUESTS)/busybox-static:i386/bin/busybox tools/init && \
	    tools/unpack-kernel $(INSTALLER)/linux $(GUESTS)/vmlinux && exit $$fetched

check check-slow: deps
	@$(MAKE) --no-print-directory build sanitize
	@$(MAKE) --no-print-directory guests || echo "Tests of the guests that are missing are skipped."
	@test/run.py --build $(BUILD) --sanitize $(SANITIZE) --jobs $(JOBS) \
	    $(if $(filter check-slow,$@),--slow) $(TESTS)

# Both run until they are interrupted or have found something. fuzz-cpu: MODE is 64 or 32.
MODE ?= 64
fuzz: deps
	@$(MAKE) --no-print-directory sanitize
	@test/fuzz/forever $(SANITIZE)/test/fuzz

fuzz-cpu: deps
	@$(MAKE) --no-print-directory build
	@$(BUILD)/test/silicon/silicon --forever --mode $(MODE) --seed $$(date +%s)

# Beside QEMU and User-mode Linux where those are, or can be had. BENCH takes options: see
# bench/run --help.
bench:
	@tools/deps build guests
	@tools/deps bench || echo "bench: going on without some of its peers" >&2
	@$(MAKE) --no-print-directory build
	@tools/fetch $(GUESTS) linux-image-cloud-amd64 busybox-static
	@bench/run $(BUILD) $(BENCH)
	@bench/containers $(BUILD)

install: build
	@meson install -C $(BUILD) --no-rebuild

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

lint: build
	@tools/deps lint
	@tools/lint $(BUILD)

clean:
	@rm -rf $(BUILD)
