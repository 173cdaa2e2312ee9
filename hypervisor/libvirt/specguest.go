package libvirt

import (
	"encoding/xml"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat/hypervisor"
)

// families are the guest families by the makers in libosinfo's ids. Nearly all
// others there are Linux, but an id that nobody knows is left unsaid.
var families = map[string]string{
	"microsoft.com": "windows",
	"freebsd.org":   "bsd", "openbsd.org": "bsd", "netbsd.org": "bsd", "dragonflybsd.org": "bsd",
	"debian.org": "linux", "ubuntu.com": "linux", "fedoraproject.org": "linux", "redhat.com": "linux",
	"centos.org": "linux", "opensuse.org": "linux", "suse.com": "linux", "almalinux.org": "linux",
	"rockylinux.org": "linux", "oracle.com": "linux", "archlinux.org": "linux", "alpinelinux.org": "linux",
	"gentoo.org": "linux", "libosinfo.org": "linux", "amazon.com": "linux", "mageia.org": "linux",
}

// guestSystem is the id that libosinfo gave the guest's system, as tools write it
// into the metadata, and its family.
func guestSystem(metadata string) (system, family string) {
	var all struct {
		Info []struct {
			OS struct {
				ID string `xml:"id,attr"`
			} `xml:"http://libosinfo.org/xmlns/libvirt/domain/1.0 os"`
		} `xml:"http://libosinfo.org/xmlns/libvirt/domain/1.0 libosinfo"`
	}
	if xml.Unmarshal([]byte("<metadata>"+metadata+"</metadata>"), &all) != nil || len(all.Info) == 0 {
		return "", ""
	}
	system = hypervisor.GuestWords(all.Info[0].OS.ID)
	u, err := url.Parse(system)
	if err != nil {
		return system, ""
	}
	return system, families[strings.TrimPrefix(u.Hostname(), "www.")]
}

// hyperV are the enlightenments that are on, by libvirt's names, ascending.
func hyperV(features *libvirtxml.DomainFeatureList) []string {
	if features == nil || features.HyperV == nil {
		return nil
	}
	hv := features.HyperV
	states := map[string]*libvirtxml.DomainFeatureState{
		"relaxed": hv.Relaxed, "vapic": hv.VAPIC, "vpindex": hv.VPIndex, "runtime": hv.Runtime,
		"synic": hv.Synic, "reset": hv.Reset, "frequencies": hv.Frequencies,
		"reenlightenment": hv.ReEnlightenment, "ipi": hv.IPI, "evmcs": hv.EVMCS, "avic": hv.AVIC,
		"emsr_bitmap": hv.EMSRBitmap, "xmm_input": hv.XMMInput,
	}
	if hv.STimer != nil {
		states["stimer"] = &hv.STimer.DomainFeatureState
		if isOn(hv.STimer.Direct) {
			states["stimer-direct"] = hv.STimer.Direct
		}
	}
	if hv.TLBFlush != nil {
		states["tlbflush"] = &hv.TLBFlush.DomainFeatureState
	}
	var names []string
	for name, state := range states {
		if isOn(state) {
			names = append(names, name)
		}
	}
	if hv.Spinlocks != nil && isOn(&hv.Spinlocks.DomainFeatureState) {
		names = append(names, fmt.Sprintf("spinlocks=%d", hv.Spinlocks.Retries))
	}
	if hv.VendorId != nil && isOn(&hv.VendorId.DomainFeatureState) && plainValue(hv.VendorId.Value) {
		names = append(names, "vendor_id="+hv.VendorId.Value)
	}
	slices.Sort(names)
	return names
}

func isOn(s *libvirtxml.DomainFeatureState) bool { return s != nil && s.State == "on" }

// plainValue: letters and digits, at most the 12 that a CPU's vendor has.
func plainValue(text string) bool {
	return len(text) > 0 && len(text) <= 12 && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}
