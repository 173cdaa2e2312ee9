package libvirt

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lifeboat"
	"lifeboat/hypervisor"
)

func readXML(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestADomainIsDescribedWithAllThatItsGuestNotices(t *testing.T) {
	text := readXML(t, "windows.xml")
	got, err := describe(text, "")
	if err != nil {
		t.Fatal(err)
	}
	want := lifeboat.Machine{
		Version: 1, ID: hypervisor.DerivedID(Kind, "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"), Name: "dc 01",
		UUID:         "4dea22b3-1d52-d8f3-2516-782e98ab3fa0",
		SMBIOS:       lifeboat.SMBIOS{Manufacturer: "Contoso", Product: "Server 9", Serial: "SN-0815"},
		GenerationID: true, Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareUEFI, SecureBoot: true},
		TPM: &lifeboat.TPM{Version: "2.0", Model: "crb"}, Chipset: lifeboat.ChipsetQ35,
		CPUs: 4, Topology: &lifeboat.Topology{Sockets: 1, Cores: 2, Threads: 2}, CPUModel: "host-model",
		HyperV:      []string{"relaxed", "spinlocks=8191", "vapic", "vendor_id=KVMKVMKVM"},
		MemoryBytes: 4 << 30, ClockLocal: true, GuestFamily: "windows", GuestSystem: "http://microsoft.com/win/2k22", Agent: true,
		Disks: []lifeboat.Disk{
			{Key: "sda", Bus: lifeboat.BusSATA, Serial: "C-DRIVE", WWN: "5000c50015ea71ab", Place: "0:2", PCISlot: "0000:00:1f.2", BootIndex: 1},
			{Key: "sdb", Bus: lifeboat.BusVirtioSCSI, LogicalSectorBytes: 4096, PhysicalSectorBytes: 4096, Place: "1:3", PCISlot: "0000:03:00.0", BootIndex: 2},
			{Key: "vda", Bus: lifeboat.BusVirtio, PCISlot: "0000:04:00.0"},
			{Key: "sdc", Bus: lifeboat.BusLSISAS, Place: "0:1", PCISlot: "0000:10:01.0"},
			{Key: "vdb", Bus: lifeboat.BusVirtio},
			{Key: "vdc", Bus: lifeboat.BusVirtio},
			{Key: "sde", Bus: lifeboat.BusSATA},
		},
		NICs: []lifeboat.NIC{
			{MAC: "52:54:00:aa:bb:cc", Model: "e1000e", Network: "br0", PCISlot: "0000:01:00.0"},
			{MAC: "52:54:00:aa:bb:cd", Model: "virtio", Network: "dmz"},
			{MAC: "52:54:00:aa:bb:ce", Model: "rtl8139"},
		},
		Native: &lifeboat.NativeDescription{Format: nativeFormat, Text: text},
	}
	if diff := cmp.Diff(want, got.machine); diff != "" {
		t.Errorf("the machine differs (-want +got):\n%s", diff)
	}
	wantDisks := []diskSource{
		{key: "sda", target: "sda", kind: "file", path: "/srv/dc01-c.qcow2", format: "qcow2"},
		{key: "sdb", target: "sdb", kind: "block", path: "/dev/vg/dc01-d", format: "raw"},
		{key: "vda", target: "vda", kind: "volume", pool: "fast", volume: "dc01.img", format: "raw"},
		{key: "sdc", target: "sdc", kind: "block", path: "/dev/sdx", format: "raw"},
		{key: "vdb", target: "vdb", kind: "network", format: "raw", onlyRunning: "it lies on network storage (rbd)"},
		{key: "vdc", target: "vdc", kind: "file", path: "/srv/cluster.raw", format: "raw"},
		{key: "sde", target: "sde", kind: "file", path: "/srv/stick.raw", format: "raw"},
	}
	for i, key := range []string{"", "", "", "sdc", "", "vdc", ""} {
		if (got.disks[i].refused != "") != (key != "") {
			t.Errorf("disk %s is refused because %q", got.disks[i].key, got.disks[i].refused)
		}
		got.disks[i].refused = ""
	}
	if diff := cmp.Diff(wantDisks, got.disks, cmp.AllowUnexported(diskSource{})); diff != "" {
		t.Errorf("where the disks are differs (-want +got):\n%s", diff)
	}
	if got.nvramPath != "/var/lib/libvirt/qemu/nvram/dc 01_VARS.fd" || got.tpmState != systemTPMs+"/4dea22b3-1d52-d8f3-2516-782e98ab3fa0/tpm2" {
		t.Errorf("NVRAM %q, TPM %q", got.nvramPath, got.tpmState)
	}
	for _, words := range []string{"PCI device", `bus "usb"`} {
		if !slices.ContainsFunc(got.left, func(s string) bool { return strings.Contains(s, words) }) {
			t.Errorf("nothing says that %s is not kept: %q", words, got.left)
		}
	}
}

// smallDomain is a description with parts inside <os> and <domain>.
func smallDomain(os, more string) string {
	return "<domain type='qemu'><name>m</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>" +
		"<os>" + "<type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>" + os + "</os>" + more + "</domain>"
}

func TestFirmwareIsReadTheWayLibvirtMeansIt(t *testing.T) {
	const code, ms = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_CODE_4M.ms.fd"
	features := func(secure, keys string) string {
		return "<firmware><feature enabled='" + secure + "' name='secure-boot'/><feature enabled='" + keys + "' name='enrolled-keys'/></firmware>"
	}
	for name, c := range map[string]struct {
		os     string
		kind   lifeboat.FirmwareKind
		secure bool
	}{
		"nothing said":                  {"", lifeboat.FirmwareBIOS, false},
		"BIOS by name":                  {"<loader type='rom'>/usr/share/seabios/bios.bin</loader>", lifeboat.FirmwareBIOS, false},
		"flash without keys":            {"<loader readonly='yes' type='pflash'>" + code + "</loader><nvram>/n</nvram>", lifeboat.FirmwareUEFI, false},
		"flash with keys":               {"<loader readonly='yes' secure='yes' type='pflash'>" + ms + "</loader><nvram>/n</nvram>", lifeboat.FirmwareUEFI, true},
		"keys in the template":          {"<loader readonly='yes' secure='yes' type='pflash'>" + code + "</loader><nvram template='/x/OVMF_VARS_4M.ms.fd'>/n</nvram>", lifeboat.FirmwareUEFI, true},
		"keys in the code alone":        {"<loader readonly='yes' secure='yes' type='pflash'>" + ms + "</loader><nvram template='/x/OVMF_VARS_4M.fd'>/n</nvram>", lifeboat.FirmwareUEFI, false},
		"without variables":             {"<loader type='rom'>/usr/share/ovmf/OVMF.fd</loader>", lifeboat.FirmwareUEFI, false},
		"features off":                  {features("no", "no") + "<loader readonly='yes' type='pflash'>" + ms + "</loader>", lifeboat.FirmwareUEFI, false},
		"features on":                   {features("yes", "yes") + "<loader readonly='yes' type='pflash'>" + code + "</loader>", lifeboat.FirmwareUEFI, true},
		"firmware that could, no keys":  {features("yes", "no") + "<loader readonly='yes' secure='yes' type='pflash'>" + ms + "</loader>", lifeboat.FirmwareUEFI, false},
		"a stateless flash":             {"<loader readonly='yes' type='pflash' stateless='yes'>" + code + "</loader>", lifeboat.FirmwareUEFI, false},
		"a folder that says secboot":    {"<loader readonly='yes' secure='yes' type='pflash'>/secboot/CODE.fd</loader>", lifeboat.FirmwareUEFI, false},
		"variables given as a source":   {"<loader readonly='yes' type='pflash'>" + code + "</loader><nvram type='file'><source file='/n'/></nvram>", lifeboat.FirmwareUEFI, false},
		"Red Hat's names, keys therein": {"<loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.secboot.fd</loader><nvram template='/usr/share/OVMF/OVMF_VARS.secboot.fd'>/n</nvram>", lifeboat.FirmwareUEFI, true},
	} {
		got, err := describe(smallDomain(c.os, ""), "")
		if err != nil || got.machine.Firmware.Kind != c.kind || got.machine.Firmware.SecureBoot != c.secure {
			t.Errorf("%s: %+v, %v, want %s, Secure Boot %v", name, got.machine.Firmware, err, c.kind, c.secure)
		}
	}
	auto := strings.Replace(smallDomain("", ""), "<os>", "<os firmware='efi'>", 1)
	running := strings.Replace(smallDomain("<loader readonly='yes' secure='yes' type='pflash'>"+ms+"</loader><nvram>/n</nvram>", ""), "<os>", "<os firmware='efi'>", 1)
	got, err := describe(auto, running)
	if err != nil || !got.machine.Firmware.SecureBoot || got.nvramPath != "/n" {
		t.Errorf("a firmware that libvirt chose at the start: %+v, variables %q, %v", got.machine.Firmware, got.nvramPath, err)
	}
}

func TestWhatRunsDecidesAboutDevicesAndTheDefinitionAboutTheRest(t *testing.T) {
	config := smallDomain("", "<cpu mode='host-model'/><devices><disk type='file' device='disk'><source file='/old'/><target dev='vda' bus='virtio'/></disk></devices>")
	live := smallDomain("", "<cpu mode='custom'><model>Skylake-Server</model></cpu><devices><disk type='file' device='disk'><source file='/new'/><target dev='vda' bus='virtio'/></disk></devices>")
	got, err := describe(config, live)
	if err != nil || got.machine.CPUModel != "host-model" || got.disks[0].path != "/new" {
		t.Errorf("CPU %q, disk %+v, %v", got.machine.CPUModel, got.disks, err)
	}
	if got.machine.Native.Text != config {
		t.Error("the description that is kept is not the definition")
	}
}

func TestAMachineOfOursCarriesItsIDAndItsRun(t *testing.T) {
	own := ours{ID: strings.Repeat("0a", 16), Recovery: `run "1" & 2`}
	got, err := describe(smallDomain("", "<metadata>"+own.text()+"</metadata>"), "")
	if err != nil || got.machine.ID != own.ID || got.recovery != own.Recovery {
		t.Errorf("id %q, run %q, %v, want %q, %q", got.machine.ID, got.recovery, err, own.ID, own.Recovery)
	}
	own.ID = "../../etc"
	if _, err := describe(smallDomain("", "<metadata>"+own.text()+"</metadata>"), ""); err == nil {
		t.Error("an id that is none was taken")
	}
	if _, err := describe(smallDomain("", "<metadata>"+ours{ID: strings.Repeat("a", 32)}.text()+ours{ID: strings.Repeat("b", 32)}.text()+"</metadata>"), ""); err == nil {
		t.Error("two ids were taken")
	}
}

// libvirt gives the element out with its namespace inside the whole, and without
// when it is asked for alone. Nothing is lost on either way.
func TestWhatStandsInADefinitionIsReadInBothForms(t *testing.T) {
	own := ours{ID: strings.Repeat("0a", 16), Recovery: "r", Name: "n/m", UUID: "u", Domain: "d", Family: "linux", System: "s", CPU: "c",
		HyperV: "relaxed vapic", Making: true, Pool: "p", Made: []string{"a", "b"}}
	for i, v := 0, reflect.ValueOf(own); i < v.NumField(); i++ {
		if v.Type().Field(i).Name != "XMLName" && v.Field(i).IsZero() {
			t.Errorf("field %s is not in this test", v.Type().Field(i).Name)
		}
	}
	ignore := cmpopts.IgnoreFields(ours{}, "XMLName")
	whole, found, err := parseOurs(own.text())
	if diff := cmp.Diff(own, whole, ignore); diff != "" || !found || err != nil {
		t.Errorf("in the whole: %v, %v, %s", found, err, diff)
	}
	alone, err := parseElement(strings.Replace(own.text(), ` xmlns="`+metadataNamespace+`"`, "", 1))
	if diff := cmp.Diff(own, alone, ignore); diff != "" || err != nil {
		t.Errorf("alone: %v, %s", err, diff)
	}
}

func TestADescriptionThatCannotBeIsRefusedWithWords(t *testing.T) {
	for name, text := range map[string]string{
		"no XML":             "Hello",
		"empty":              "<domain/>",
		"a container":        strings.Replace(smallDomain("", ""), ">hvm<", ">exe<", 1),
		"a name that bites":  strings.Replace(smallDomain("", ""), "<name>m", "<name>m&#x9b;2J", 1),
		"memory of nobody":   strings.Replace(smallDomain("", ""), "unit='MiB'>64", "unit='TiB'>999999999", 1),
		"an unknown unit":    strings.Replace(smallDomain("", ""), "unit='MiB'", "unit='furlong'", 1),
		"a key that is none": smallDomain("", "<devices><disk type='file' device='disk'><source file='/x'/><target dev='../x' bus='virtio'/></disk></devices>"),
		"no target":          smallDomain("", "<devices><disk type='file' device='disk'><source file='/x'/></disk></devices>"),
	} {
		if got, err := describe(text, ""); err == nil {
			t.Errorf("%s was taken for %+v", name, got.machine)
		}
	}
}

func TestAMachineThatCannotBeExportedSaysWhyAndWhatToDo(t *testing.T) {
	disk := func(attributes, inside string) string {
		return smallDomain("", "<devices><disk "+attributes+"><target dev='vda' bus='virtio'/>"+inside+"</disk></devices>")
	}
	for name, c := range map[string]struct {
		xml   string
		power hypervisor.PowerState
		saved bool
		why   string
	}{
		"a plain one":            {disk("type='file' device='disk'", "<source file='/x'/>"), hypervisor.PowerOff, false, ""},
		"shared":                 {disk("type='file' device='disk'", "<source file='/x'/><shareable/>"), hypervisor.PowerOn, false, "shared with other machines"},
		"a LUN":                  {disk("type='block' device='lun'", "<source dev='/dev/x'/>"), hypervisor.PowerOn, false, "passed through"},
		"transient":              {disk("type='file' device='disk'", "<source file='/x'/><transient/>"), hypervisor.PowerOn, false, "transient"},
		"a folder":               {disk("type='dir' device='disk'", "<source dir='/x'/>"), hypervisor.PowerOn, false, "folder of the host"},
		"another program":        {disk("type='vhostuser' device='disk'", "<source type='unix' path='/x'/>"), hypervisor.PowerOn, false, "another program"},
		"network storage, off":   {disk("type='network' device='disk'", "<source protocol='rbd' name='p/i'/>"), hypervisor.PowerOff, false, "cannot be read then"},
		"network storage, on":    {disk("type='network' device='disk'", "<source protocol='rbd' name='p/i'/>"), hypervisor.PowerOn, false, ""},
		"encrypted, off":         {disk("type='file' device='disk'", "<source file='/x'><encryption format='luks'/></source>"), hypervisor.PowerOff, false, "encrypted"},
		"memory that was saved":  {disk("type='file' device='disk'", "<source file='/x'/>"), hypervisor.PowerOff, true, "managedsave"},
		"an empty tray of disks": {disk("type='file' device='disk'", ""), hypervisor.PowerOff, false, ""},
	} {
		d, err := describe(c.xml, "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := &sight{description: d, power: c.power, saved: c.saved, way: "unix"}
		err = s.refuse("kvm1", nil)
		if (err != nil) != (c.why != "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q", name, err, c.why)
		}
		if words := refusedWords(s.refusals(nil)); !strings.Contains(words, c.why) || (words == "") != (c.why == "") {
			t.Errorf("%s: the list says %q, want %q", name, words, c.why)
		}
		var p *lifeboat.Problem
		if err != nil && (!errors.As(err, &p) || p.Next == "" || !errors.Is(err, hypervisor.ErrUnsupported)) {
			t.Errorf("%s: %#v says nothing to do", name, err)
		}
		if err := s.refuse("kvm1", map[string]bool{"vda": true}); err != nil && !c.saved {
			t.Errorf("%s: refused though the disk is left out: %v", name, err)
		}
	}
}

func TestAMachineOfAnotherComputerSaysWhatCannotBeReadThere(t *testing.T) {
	for _, c := range []struct {
		way   string
		power hypervisor.PowerState
		why   string
	}{
		{"unix", hypervisor.PowerOff, ""}, {"ssh", hypervisor.PowerOn, ""}, {"ssh", hypervisor.PowerOff, "another computer"},
		{"tls", hypervisor.PowerOn, "no disks"}, {"libssh", hypervisor.PowerOff, "no disks"},
	} {
		got := refusedWords((&sight{way: c.way, power: c.power}).refusals(nil))
		if (got == "") != (c.why == "") || !strings.Contains(got, c.why) {
			t.Errorf("%s, %s: %q, want %q", c.way, c.power, got, c.why)
		}
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add(readXML(f, "windows.xml"), "")
	f.Add(smallDomain("", ""), smallDomain("<smbios mode='host'/>", "<devices/>"))
	f.Fuzz(func(t *testing.T, config, live string) {
		got, err := describe(config, live)
		if err != nil {
			return
		}
		if len(got.disks) != len(got.machine.Disks) {
			t.Errorf("%d sources for %d disks", len(got.disks), len(got.machine.Disks))
		}
		if !isID(got.machine.ID) || got.machine.CPUs < 1 || got.machine.MemoryBytes < 1 {
			t.Errorf("a machine that cannot be: %+v", got.machine)
		}
	})
}
