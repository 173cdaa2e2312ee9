package vsphere

import (
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// sparing are the kinds of tasks that do not write to the files beneath a
// snapshot, as servers name them in Task.Info.DescriptionId (their own list is
// TaskManager.description.methodInfo), in small letters. Moving a running machine
// to another host leaves its files alone; moving its files does not, and is not
// here. The first of them are our own.
var sparing = []string{
	"virtualmachine.createsnapshot", "virtualmachine.createsnapshotex", "vm.snapshot.rename",
	"vm.snapshot.exportsnapshot", "virtualmachine.exportvm", "virtualmachine.exportvmlro",
	"virtualmachine.reconfigure", "virtualmachine.querychangeddiskareas", "virtualmachine.createscreenshot",

	"virtualmachine.poweron", "virtualmachine.poweroff", "virtualmachine.reset", "virtualmachine.suspend",
	"virtualmachine.shutdownguest", "virtualmachine.rebootguest", "virtualmachine.standbyguest",
	"datacenter.executevmpoweronlro", "drm.executevmpoweronlro", "drm.executevmotionlro", "virtualmachine.migrate",
	"virtualmachine.answer", "virtualmachine.rename", "virtualmachine.setcustomvalue", "virtualmachine.refreshstorageinfo",
	"virtualmachine.mounttoolsinstaller", "virtualmachine.unmounttoolsinstaller", "virtualmachine.upgradetools",
	"virtualmachine.acquireticket", "virtualmachine.acquiremksticket", "virtualmachine.setscreenresolution",
	"virtualmachine.queryunownedfiles", "virtualmachine.estimatestoragerequirementforconsolidate",
	"virtualmachine.addtag", "virtualmachine.removetag",
}

// merging are the methods that write beneath a snapshot, as in Task.Info.Name.
var merging = []string{"removesnapshot", "removeallsnapshots", "consolidatevmdisks", "consolidatedisks", "reverttosnapshot", "reverttocurrentsnapshot"}

// sparesDisks says whether a task is known to leave alone what is beneath a
// snapshot. Of what is not known, a newer server's or another program's, nobody
// knows.
func sparesDisks(task types.TaskInfo) bool {
	name := strings.TrimSuffix(strings.ToLower(task.Name), "_task")
	if slices.Contains(merging, strings.TrimPrefix(name, "vim.")) {
		return false
	}
	id := strings.TrimPrefix(strings.ToLower(task.DescriptionId), "vim.")
	// What servers call the task of a lease differs from version to version. All
	// of them export, and no export writes to what it reads.
	return slices.Contains(sparing, id) || strings.Contains(id, ".export")
}
