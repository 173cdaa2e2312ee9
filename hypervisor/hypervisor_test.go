package hypervisor

import "testing"

func TestASystemThatDoesNotFindItsRootSaysSo(t *testing.T) {
	for printed, want := range map[string]string{
		"[    1.2] VFS: Unable to mount root fs on unknown-block(0,0)\r\nmore":                "VFS: Unable to mount root fs on unknown-block(0,0)",
		"ALERT!  UUID=1 does not exist.  Dropping to a shell!\n":                              "ALERT!  UUID=1 does not exist.  Dropping to a shell!",
		"[ OK ] dracut cmdline hook\ndracut-initqueue[1]: Warning: Could not boot.\n":         "dracut-initqueue[1]: Warning: Could not boot.",
		"dracut-initqueue[1]: Warning: dracut-initqueue timeout - starting timeout scripts\n": "",
		"ALERT! the coffee is cold\n":                                                         "",
		"login: ":                                                                             "",
		"Gave up waiting for root device.\x1b[":                                               "Gave up waiting for root device.[",
	} {
		if got := NoRootIn([]byte(printed)); got != want {
			t.Errorf("%q: %q, not %q", printed, got, want)
		}
	}
}

func TestASystemThatGoesOnDoesNotMissItsRoot(t *testing.T) {
	const gaveUp = "Gave up waiting for root file system device.  Common problems:\r\n"
	for printed, missing := range map[string]bool{
		gaveUp: true,
		gaveUp + " - Boot args (cat /proc/cmdline)\r\n(initramfs) ":                                                   true,
		gaveUp + "[    9.1] md/raid1:md0: active with 1 out of 2 mirrors\r\n":                                         false,
		gaveUp + "[    9.9] EXT4-fs (vda1): mounted filesystem with ordered data mode\r\n":                            false,
		gaveUp + "[    9.9] XFS (md0): Ending clean mount\r\n":                                                        false,
		gaveUp + "Debian GNU/Linux 12 web ttyS0\r\n\r\nweb login: ":                                                   false,
		gaveUp + "[    5.0] Rebooting in 10 seconds..\r\n[    0.000000] Linux version 6.1.0\r\n":                      true,
		"web login: root\r\n[    0.000000] Linux version 6.1.0\r\n" + gaveUp:                                          true,
		gaveUp + "web login: \r\n[    0.000000] Linux version 6.1.0\r\n" + gaveUp:                                     true,
		"dracut-initqueue[1]: Warning: dracut-initqueue timeout\r\nmd0: active\r\nRocky Linux 9.4\r\n\r\nweb login: ": false,
	} {
		if got := NoRootIn([]byte(printed)); got != "" != missing {
			t.Errorf("%q: %q", printed, got)
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
