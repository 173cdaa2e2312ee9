package hypervisor

import "testing"

func TestASystemThatDoesNotFindItsRootSaysSo(t *testing.T) {
	for printed, want := range map[string]string{
		"[    1.2] VFS: Unable to mount root fs on unknown-block(0,0)\r\nmore":                "VFS: Unable to mount root fs on unknown-block(0,0)",
		"ALERT!  UUID=1 does not exist.  Dropping to a shell!\n":                              "ALERT!  UUID=1 does not exist.  Dropping to a shell!",
		"dracut-initqueue[1]: Warning: dracut-initqueue timeout - starting timeout scripts\n": "dracut-initqueue timeout - starting timeout scripts",
		"ALERT! the coffee is cold\n":                                                         "",
		"login: ":                                                                             "",
		"Gave up waiting for root device.\x1b[":                                               "Gave up waiting for root device.[",
	} {
		if got := NoRootIn([]byte(printed)); got != want {
			t.Errorf("%q: %q, not %q", printed, got, want)
		}
	}
}

func TestAMachineKeepsTheIDThatFollowsFromItsHosts(t *testing.T) {
	a := DerivedID("libvirt", "6D2B0F7A-0000-0000-0000-000000000001")
	if len(a) != 32 || a != DerivedID("libvirt", "6d2b0f7a-0000-0000-0000-000000000001") {
		t.Errorf("%q is not one, or depends on the case", a)
	}
	if a == DerivedID("vsphere", "6d2b0f7a-0000-0000-0000-000000000001") {
		t.Error("two kinds of hosts share an id")
	}
}
