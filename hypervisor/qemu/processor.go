package qemu

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lifeboat"
)

var hostModel = regexp.MustCompile(`^(host|max|host-passthrough|host-model|maximum)?$`)

// cpuModel is the model to show the guest. Without KVM "the host's" is slower
// than the oldest model that today's distributions start on.
func cpuModel(model string, a Accelerator) string {
	switch {
	case !hostModel.MatchString(model):
		return model
	case a == AcceleratorKVM:
		return "host"
	default:
		return "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"
	}
}

// arrangement is how the processors are arranged. Without a word about it each
// has a socket of its own, as on the hosts that machines come from; QEMU by
// itself would put all into one.
func arrangement(m *lifeboat.Machine) string {
	t := lifeboat.Topology{Sockets: m.CPUs, Cores: 1, Threads: 1}
	if m.Topology != nil {
		t = *m.Topology
	}
	return fmt.Sprintf("%d,sockets=%d,cores=%d,threads=%d", m.CPUs, t.Sockets, t.Cores, t.Threads)
}

// enlightenments are the Hyper-V flags that QEMU has on every PC, by libvirt's
// names, and what each needs beside it: QEMU does not start without. Those that
// depend on the processor (evmcs, avic, emsr_bitmap, xmm_input) are not among
// them: they make a guest faster on the host that it had, and keep it from
// starting on another.
var enlightenments = map[string][]string{
	"relaxed": nil, "vapic": nil, "spinlocks": nil, "vpindex": nil, "runtime": nil, "reset": nil,
	"frequencies": nil, "reenlightenment": nil, "vendor_id": nil, "time": nil,
	"synic": {"vpindex"}, "stimer": {"synic", "vpindex", "time"}, "stimer_direct": {"stimer", "synic", "vpindex", "time"},
	"tlbflush": {"vpindex"}, "ipi": {"vpindex"},
}

// enlightenmentForm is one word of a description. Of the values only a number
// of spins and a name have a meaning.
var enlightenmentForm = regexp.MustCompile(`^([a-z_-]{1,32})(=[A-Za-z0-9 ._-]{1,12})?$`)

// QEMU refuses fewer tries at a lock than that; what Windows' own host says is
// the usual number.
const (
	leastSpins = 0xfff
	usualSpins = 0x1fff
)

// hyperV returns the flags for QEMU's -cpu, and the words that it leaves out.
func hyperV(words []string) (flags, left []string) {
	values := map[string]string{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		name = strings.ReplaceAll(name, "-", "_")
		if name == "hypervclock" {
			name = "time"
		}
		needs, ok := enlightenments[name]
		if !ok || name == "vendor_id" && value == "" || !enlightenmentForm.MatchString(word) {
			left = append(left, word)
			continue
		}
		for _, need := range needs {
			if _, ok := values[need]; !ok {
				values[need] = ""
			}
		}
		values[name] = value
	}
	for name, value := range values {
		flag := "hv-" + strings.ReplaceAll(name, "_", "-")
		switch name {
		case "spinlocks":
			spins, err := strconv.ParseUint(value, 0, 31)
			if err != nil || spins < leastSpins {
				spins = usualSpins
			}
			flag += fmt.Sprintf("=%d", spins)
		case "vendor_id":
			flag += "=" + value
		}
		flags = append(flags, flag)
	}
	slices.Sort(flags)
	return flags, left
}

// processor is the value of QEMU's -cpu.
func (m *machine) processor(s start) string {
	model := m.def.Machine.CPUModel
	if s.plainCPU {
		model = ""
	}
	var flags []string
	if s.accelerator == AcceleratorKVM {
		flags, _ = hyperV(m.def.Machine.HyperV) // nothing else has them
	}
	return strings.Join(append([]string{cpuModel(model, s.accelerator)}, flags...), ",")
}

// knowsCPU says whether the machine's processor model is one that this QEMU has.
// A model that is newer than QEMU must not keep a machine from starting.
func (m *machine) knowsCPU(ctx context.Context, binary string) bool {
	model := m.def.Machine.CPUModel
	if hostModel.MatchString(model) {
		return true
	}
	name, _, _ := strings.Cut(model, ",")
	list, err := exec.CommandContext(ctx, binary, "-cpu", "help").Output()
	if err != nil {
		return true // let QEMU say what is wrong
	}
	for line := range strings.Lines(string(list)) {
		// "x86 NAME  words", and without the first word in newer ones.
		f := strings.Fields(line)
		if len(f) > 0 && f[0] == name || len(f) > 1 && f[0] == "x86" && f[1] == name {
			return true
		}
	}
	return false
}
