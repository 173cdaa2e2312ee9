package libvirt

import (
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat"
)

// translationMiB bounds QEMU's memory for translated code: without KVM it would
// take up to 1 GiB for every machine.
const translationMiB = 128

func featuresXML(m *lifeboat.Machine, kvm bool) *libvirtxml.DomainFeatureList {
	f := &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}}
	if !kvm {
		f.TCG = &libvirtxml.DomainFeatureTCG{TBCache: &libvirtxml.DomainFeatureTCGTBCache{Unit: "MiB", Size: translationMiB}}
	}
	if m.Firmware.Kind == lifeboat.FirmwareUEFI && m.Firmware.SecureBoot {
		f.SMM = &libvirtxml.DomainFeatureSMM{State: "on"}
	}
	// They are KVM's. Without it the guest is slow anyway.
	if kvm && len(m.HyperV) > 0 {
		f.HyperV, _ = hyperVXML(m.HyperV)
	}
	return f
}

// hyperVXML turns enlightenments on. It returns those that libvirt has no word for,
// which the guest goes without: it asks before it uses one.
func hyperVXML(names []string) (*libvirtxml.DomainFeatureHyperV, []string) {
	h := &libvirtxml.DomainFeatureHyperV{}
	on := func() *libvirtxml.DomainFeatureState { return &libvirtxml.DomainFeatureState{State: "on"} }
	plain := map[string]**libvirtxml.DomainFeatureState{
		"relaxed": &h.Relaxed, "vapic": &h.VAPIC, "vpindex": &h.VPIndex, "runtime": &h.Runtime, "synic": &h.Synic,
		"reset": &h.Reset, "frequencies": &h.Frequencies, "reenlightenment": &h.ReEnlightenment, "ipi": &h.IPI,
		"evmcs": &h.EVMCS, "avic": &h.AVIC, "emsr_bitmap": &h.EMSRBitmap, "xmm_input": &h.XMMInput,
	}
	var unknown []string
	direct := false
	for _, word := range names {
		name, value, _ := strings.Cut(word, "=")
		switch {
		case plain[name] != nil && value == "":
			*plain[name] = on()
		case name == "stimer":
			h.STimer = &libvirtxml.DomainFeatureHyperVSTimer{DomainFeatureState: *on()}
		case name == "stimer-direct":
			direct = true
		case name == "tlbflush":
			h.TLBFlush = &libvirtxml.DomainFeatureHyperVTLBFlush{DomainFeatureState: *on()}
		case name == "spinlocks" && spinlocks(value) > 0:
			h.Spinlocks = &libvirtxml.DomainFeatureHyperVSpinlocks{DomainFeatureState: *on(), Retries: spinlocks(value)}
		case name == "vendor_id" && value != "" && len(value) <= 12 && modelName.MatchString(value):
			h.VendorId = &libvirtxml.DomainFeatureHyperVVendorId{DomainFeatureState: *on(), Value: value}
		default:
			unknown = append(unknown, word)
		}
	}
	if direct && h.STimer != nil {
		h.STimer.Direct = on()
	}
	return h, unknown
}

// spinlocks is the number of tries before a guest gives up its processor, at
// least libvirt's smallest, or 0 for what is none.
func spinlocks(value string) uint {
	n, err := strconv.ParseUint(value, 0, 32)
	if err != nil || n < 4095 {
		return 0
	}
	return uint(n)
}
