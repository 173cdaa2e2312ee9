package libvirt

import (
	"slices"
	"testing"
)

// A disk that was added to a machine of ours may have a target that is the key of
// another one.
func TestNoTwoDisksHaveOneKey(t *testing.T) {
	disk := func(target, alias string) string {
		return "<disk type='file' device='disk'><source file='/" + target + "'/><target dev='" + target + "' bus='virtio'/>" + alias + "</disk>"
	}
	text := smallDomain("", "<devices>"+disk("vda", "")+disk("sda", "<alias name='ua-disk-vda'/>")+
		disk("sdb", "<alias name='ua-disk-vda'/>")+disk("sdc", "<alias name='ua-disk-vda-2'/>")+"</devices>")
	got, err := describe(text, "")
	if err != nil {
		t.Fatal(err)
	}
	var keys, paths []string
	for i, source := range got.disks {
		if got.machine.Disks[i].Key != source.key {
			t.Errorf("disk %s has the source of %s", got.machine.Disks[i].Key, source.key)
		}
		keys, paths = append(keys, source.key), append(paths, source.path)
	}
	if want := []string{"vda-3", "vda", "vda-2", "vda-2-2"}; !slices.Equal(keys, want) {
		t.Errorf("%v have the keys %v, want %v", paths, keys, want)
	}
}
