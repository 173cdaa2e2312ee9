package libvirt

import (
	"strings"
	"testing"

	"lifeboat/hypervisor"
)

func TestTheCapabilitiesOfAHostAreReadForPeople(t *testing.T) {
	good := readXML(t, "domcapabilities.xml") // libvirt 9.0 with ovmf, without swtpm_setup
	for name, c := range map[string]struct {
		old, new string
		what     string
		ok       bool
		detail   string
	}{
		"backups":                 {"", "", "backups of running machines", true, "track what changes"},
		"a libvirt without them":  {"<backup supported='yes'/>", "", "backups of running machines", false, "too old"},
		"firmware":                {"", "", "UEFI firmware", true, "with and without Secure Boot"},
		"no firmware":             {"<value>efi</value>", "", "UEFI firmware", false, "apt-get install ovmf"},
		"Secure Boot alone":       {"<enum name='secure'>\n        <value>yes</value>\n        <value>no</value>", "<enum name='secure'><value>yes</value>", "UEFI firmware", false, "do not start"},
		"no emulator for a TPM":   {"", "", "TPM", false, "swtpm-tools"},
		"an emulator for a TPM":   {"<value>passthrough</value>", "<value>passthrough</value><value>emulator</value>", "TPM", true, "swtpm"},
		"capabilities of nothing": {good, "<domainCapabilities/>", "TPM", false, "swtpm"},
	} {
		text := good
		if c.old != "" {
			if text = strings.ReplaceAll(good, c.old, c.new); text == good {
				t.Fatalf("%s: the test changes nothing", name)
			}
		}
		findings, err := abilityFindings(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantFinding(t, findings, c.what, c.ok, c.detail)
	}
	if _, err := abilityFindings("Hello"); err == nil {
		t.Error("what is no XML was read")
	}
}

// wantFinding fails unless there is a finding of that name that says so.
func wantFinding(t *testing.T, findings []hypervisor.Finding, what string, ok bool, detail string) {
	t.Helper()
	for _, f := range findings {
		if f.What == what {
			if f.OK != ok || !strings.Contains(f.Detail, detail) {
				t.Errorf("%s: %v, %q; want %v, %q", what, f.OK, f.Detail, ok, detail)
			}
			return
		}
	}
	t.Errorf("nothing is said about %s: %+v", what, findings)
}
