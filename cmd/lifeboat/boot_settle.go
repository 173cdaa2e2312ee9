package main

import (
	"context"
	"fmt"

	"lifeboat"
)

// settleAll moves the disks of all machines to local files while they run.
func (b *booter) settleAll(ctx context.Context) error {
	for i := range b.booted.Machines {
		m := &b.booted.Machines[i]
		if m.Settled {
			continue
		}
		if err := b.settleOne(ctx, m.Name); err != nil {
			return err
		}
		if err := b.booted.change(b.booted.dir(b.a), func() { m.Settled = true }); err != nil {
			return err
		}
		b.tell(m.Name, "runs from local disk now; it does not need the drive any more")
	}
	return nil
}

func (b *booter) settleOne(ctx context.Context, machine string) error {
	p := b.a.newProgress(b.run, machine+" to local disk")
	err := b.host.Settle(ctx, machine, p.show)
	p.end()
	if err == nil || ctx.Err() != nil {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: its disks could not be moved to this computer: %v", machine, err),
		Safe: "the machine runs on, from the drive",
		Next: fmt.Sprintf("make room, and run: lifeboat boot --resume %s --settle", short(b.booted.Run)),
		Err:  err,
	}
}
