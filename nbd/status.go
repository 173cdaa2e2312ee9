package nbd

import (
	"context"
	"fmt"
	"slices"

	"lifeboat"
)

// maxRuns bounds what a server can make us remember: more than the runs of a
// disk of 1 TiB whose every second 64 KiB are written.
const maxRuns = 1 << 24

// BlockStatus returns what a metadata context says of every byte of the given
// run, ascending, neighbours with the same flags merged.
func (c *Client) BlockStatus(ctx context.Context, metaContext string, within lifeboat.Extent) ([]Status, error) {
	if _, ok := c.agreed.contexts[metaContext]; !ok {
		return nil, fmt.Errorf("ask about %s: %w", metaContext, ErrNoContext)
	}
	if err := c.inside(within); err != nil {
		return nil, err
	}
	var list []Status
	wide := c.align(within)
	for at := wide.Offset; at < wide.End(); {
		n := min(wide.End()-at, statusMost)
		runs, err := c.statusRuns(ctx, metaContext, at, n)
		if err != nil {
			return nil, fmt.Errorf("ask about %s of %d bytes at %d: %w", metaContext, n, at, err)
		}
		end := at + n
		for _, r := range runs {
			// The last run may reach further than what was asked about.
			length := min(int64(r.length), end-at)
			if length == 0 {
				break
			}
			if len(list) == maxRuns {
				return nil, fmt.Errorf("%w: more than %d runs", ErrProtocol, maxRuns)
			}
			list = appendStatus(list, Status{lifeboat.Extent{Offset: at, Length: length}, r.flags})
			at += length
		}
	}
	return clip(list, within), nil
}

// statusRuns asks once; the answer covers at least one byte.
func (c *Client) statusRuns(ctx context.Context, metaContext string, offset, length int64) ([]statusRun, error) {
	l := c.link()
	r := request{kind: cmdBlockStatus, offset: uint64(offset), length: uint32(length)}
	asked := &call{request: r, context: l.agreed.contexts[metaContext]}
	if err := l.do(ctx, asked); err != nil {
		return nil, err
	}
	return asked.runs, nil
}

// clip cuts off what is outside of the given run.
func clip(list []Status, within lifeboat.Extent) []Status {
	for i := range list {
		start, end := max(list[i].Offset, within.Offset), min(list[i].End(), within.End())
		list[i].Extent = lifeboat.Extent{Offset: start, Length: end - start}
	}
	return slices.DeleteFunc(list, func(s Status) bool { return s.Length <= 0 })
}

// DataExtents returns the runs inside the given one that may hold anything but
// zeros. It needs [ContextAllocation]; where the server does not have it,
// everything is data.
func (c *Client) DataExtents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	if _, ok := c.agreed.contexts[ContextAllocation]; !ok {
		return selectExtents([]Status{{Extent: within}}, func(uint32) bool { return within.Length > 0 }), c.inside(within)
	}
	list, err := c.BlockStatus(ctx, ContextAllocation, within)
	if err != nil {
		return nil, err
	}
	// A hole alone promises nothing about what is read there; zero does.
	return selectExtents(list, func(flags uint32) bool { return flags&StatusZero == 0 }), nil
}

// DirtyExtents returns the runs inside the given one that a dirty bitmap of
// QEMU has marked, zeros among them.
func (c *Client) DirtyExtents(ctx context.Context, bitmap string, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	list, err := c.BlockStatus(ctx, ContextDirtyBitmap+bitmap, within)
	if err != nil {
		return nil, err
	}
	return selectExtents(list, func(flags uint32) bool { return flags&StatusDirty != 0 }), nil
}

// Status is what a metadata context says of a run of bytes.
type Status struct {
	lifeboat.Extent
	Flags uint32
}
