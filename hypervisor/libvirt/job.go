//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"time"

	lv "libvirt.org/go/libvirt"

	"lifeboat"
	"lifeboat/hypervisor"
)

// jobPatience is how long an aborted job may take to end: QEMU has to finish
// what it copies at that moment.
const jobPatience = 30 * time.Second

// backupSocket is the socket of the backup job that a domain has; "" for a job
// that is none of ours. Without a job ok is false.
func (d *domain) backupSocket(ctx context.Context) (socket string, ok bool, err error) {
	text, err := onDomain(ctx, d, "look at its backup job", func(dom *lv.Domain) (string, error) {
		text, err := dom.BackupGetXMLDesc(0)
		if isCode(err, lv.ERR_NO_DOMAIN_BACKUP, lv.ERR_OPERATION_INVALID) {
			return "", nil // it has none, or it is off
		}
		return text, err
	})
	return jobSocket(text), text != "", err
}

// endOwnJob ends the backup job of this computer's export and waits until it is
// gone. A job of anybody else means that the machine is busy. Our checkpoints
// stay.
func (d *domain) endOwnJob(ctx context.Context) error {
	socket, there, err := d.backupSocket(ctx)
	if err != nil || !there {
		return err
	}
	if computer, ours := parseFolder(socket, d.uuid); !ours || computer != computerName() {
		return d.busyWith(socket)
	}
	d.owesResume.Store(!d.stoodStill.Load())
	if err := d.abortJob(ctx); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, jobPatience)
	defer cancel()
	for {
		_, there, err := d.backupSocket(ctx)
		if err != nil || !there {
			return err
		}
		if pause(limited, 5*time.Millisecond) != nil {
			return errors.New("its backup job was aborted and does not end")
		}
	}
}

func (d *domain) abortJob(ctx context.Context) error {
	return d.do(ctx, "abort its backup job", func(dom *lv.Domain) error {
		err := dom.AbortJob()
		if isCode(err, lv.ERR_OPERATION_INVALID) {
			return nil // it ended by itself
		}
		return err
	})
}

// busyWith says whose backup job it is.
func (d *domain) busyWith(socket string) error {
	if computer, ours := parseFolder(socket, d.uuid); ours {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s is exported by another computer (mark %s)", d.name, hypervisor.GuestWords(computer)),
			Safe: "nothing was done",
			Next: "wait for it; if that computer is gone for good, run on the host: virsh domjobabort " + d.uuid,
			Err:  hypervisor.ErrMachineBusy,
		}
	}
	return &lifeboat.Problem{
		What: d.name + " has a backup job of another program",
		Safe: "nothing was done",
		Next: "wait until it is over (virsh domjobinfo " + d.uuid + " on the host)",
		Err:  hypervisor.ErrMachineBusy,
	}
}

// notBusy fails if the machine does something that no export may come between:
// a migration, a dump, a snapshot.
func (d *domain) notBusy(ctx context.Context) error {
	info, err := onDomain(ctx, d, "look at its jobs", func(dom *lv.Domain) (*lv.DomainJobInfo, error) {
		return dom.GetJobStats(0)
	})
	if isCode(err, lv.ERR_OPERATION_INVALID) {
		return nil // it does not run
	}
	// The host that a machine comes to knows no more than that it comes.
	arrives := isCode(err, lv.ERR_OPERATION_UNSUPPORTED)
	if err != nil && !arrives || err == nil && info.Type == lv.DOMAIN_JOB_NONE {
		return err
	}
	what := "has a job of libvirt's under way"
	switch {
	case arrives:
		what = "is being migrated"
	case !info.OperationSet:
	case info.Operation == lv.DOMAIN_JOB_OPERATION_MIGRATION_OUT, info.Operation == lv.DOMAIN_JOB_OPERATION_MIGRATION_IN:
		what = "is being migrated"
	case info.Operation == lv.DOMAIN_JOB_OPERATION_SAVE, info.Operation == lv.DOMAIN_JOB_OPERATION_DUMP:
		what = "is being saved"
	case info.Operation == lv.DOMAIN_JOB_OPERATION_SNAPSHOT:
		what = "is being snapshotted"
	}
	return &lifeboat.Problem{
		What: d.name + " " + what,
		Safe: "nothing was done, it goes on",
		Next: "wait until that is over (virsh domjobinfo " + d.uuid + " on the host), then export it again",
		Err:  hypervisor.ErrMachineBusy,
	}
}

// goOnAfterFullScratch lets a guest go on that QEMU stopped because its scratch
// file could not be written. The job has to be gone: then the guest's write is
// done again and succeeds. One that its own storage stopped, while no job of ours
// was there, is left as it is: somebody may be repairing that.
func (d *domain) goOnAfterFullScratch(ctx context.Context) error {
	if !d.owesResume.Load() {
		return nil
	}
	err := d.do(ctx, "let it go on", func(dom *lv.Domain) error {
		state, reason, err := dom.GetState()
		if err != nil || state != lv.DOMAIN_PAUSED || reason != int(lv.DOMAIN_PAUSED_IOERROR) {
			return err
		}
		return dom.Resume()
	})
	if err == nil {
		d.owesResume.Store(false)
	}
	return err
}

// stoppedByDisk says that QEMU stopped the guest because a write failed.
func (d *domain) stoppedByDisk(ctx context.Context) bool {
	stopped, err := onDomain(ctx, d, "see whether it runs", func(dom *lv.Domain) (bool, error) {
		state, reason, err := dom.GetState()
		return state == lv.DOMAIN_PAUSED && reason == int(lv.DOMAIN_PAUSED_IOERROR), err
	})
	return err == nil && stopped
}
