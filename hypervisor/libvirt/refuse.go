package libvirt

import (
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
)

// leaveOut is what to do about a disk that cannot be held still.
const leaveOut = "export what is in it by other means, and leave it out (docs/how-to/leave-out-a-disk.md)"

// refusedDisk is why no moment of a disk can be held, or "".
func refusedDisk(disk *libvirtxml.DomainDisk) string {
	switch {
	case disk.Device == "lun":
		return "is a LUN that was passed through: the guest writes to it past QEMU"
	case disk.Shareable != nil:
		return "is shared with other machines, which write to it as well"
	case disk.Transient != nil:
		return "is transient: what the guest writes there is gone when it is switched off"
	case disk.Source.VHostUser != nil || disk.Source.VHostVDPA != nil:
		return "is kept by another program, and QEMU does not see its bytes"
	case disk.Source.Dir != nil:
		return "is a folder of the host that is shown as a disk"
	}
	return ""
}

// refusal is why a machine, or one disk of it, cannot be exported.
type refusal struct {
	// why is a sentence about the machine without its end, next what to do.
	why, next string
}

// refusals are why a machine cannot be exported as things are, or nothing. Disks
// in exclude are not asked for.
func (s *sight) refusals(exclude map[string]bool) (list []refusal) {
	switch {
	case s.way != "unix" && s.way != "ssh":
		list = append(list, refusal{"its host is reached by " + s.way + ", which carries libvirt's calls and no disks", "name the host as qemu+ssh://, or run Lifeboat on that host"})
	case s.way != "unix" && s.power == hypervisor.PowerOff:
		list = append(list, refusal{"it is off, and its host is another computer, where its images cannot be read", "start it for the export, or run Lifeboat on that host"})
	}
	if s.saved {
		list = append(list, refusal{"it was put to sleep (virsh managedsave): a part of it is in memory that no disk holds", "start it, or throw that memory away: virsh managedsave-remove"})
	}
	for _, d := range s.disks {
		switch {
		case exclude[d.key]:
		case d.refused != "":
			list = append(list, refusal{"its disk " + d.key + " " + d.refused, leaveOut})
		case d.onlyRunning != "" && s.power == hypervisor.PowerOff:
			list = append(list, refusal{"it is off, and its disk " + d.key + " cannot be read then: " + d.onlyRunning, "start it for the export, or leave the disk out (docs/how-to/leave-out-a-disk.md)"})
		}
	}
	return list
}

// refusedWords joins refusals to one sentence for a list, or "".
func refusedWords(list []refusal) string {
	parts := make([]string, len(list))
	for i, r := range list {
		parts[i] = r.why + "; " + r.next
	}
	return hypervisor.Printable(strings.Join(parts, "; "))
}

// refuse is the Problem of a machine that cannot be exported without the disks in
// exclude, or nil.
func (s *sight) refuse(host string, exclude map[string]bool) error {
	list := s.refusals(exclude)
	if len(list) == 0 {
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("host %s: %s cannot be exported: %s", host, s.machine.Name, hypervisor.Printable(list[0].why)),
		Safe: "nothing was done, and the machine goes on as it is",
		Next: list[0].next,
		Err:  fmt.Errorf("%w: hold this machine still", hypervisor.ErrUnsupported),
	}
}
