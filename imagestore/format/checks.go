package format

import "bytes"

// Limits of a record of checks: what a drive announces beyond them is refused.
const (
	// MaxCheckedPacks fits the largest small file: 20 TiB of full packs.
	MaxCheckedPacks = 350_000
	// MaxCheckedPoints fits beside them.
	MaxCheckedPoints = 50_000
	// MaxCheckSpeeds is how many verifications are remembered by their speed.
	MaxCheckSpeeds = 16
)

// Checks is what a drive remembers of its verifications: when each pack was last
// read whole and found good. Times are seconds since 1970; 0 is never.
type Checks struct {
	Sequence uint64
	// Begun is when the verification began that did not come to its end, or 0;
	// Scope tells which one it was: zeros for everything.
	Begun uint64
	Scope ID
	// Verified is when the last verification of everything began that found
	// nothing lost; 0 when something was found lost since.
	Verified uint64
	Speeds   []CheckSpeed
	Points   []CheckedPoint
	Packs    []CheckedPack
}

// CheckSpeed is how fast a verification read.
type CheckSpeed struct{ At, BytesPerSecond uint64 }

// CheckedPoint is what is known of a point.
type CheckedPoint struct {
	ID ShortID
	// Verified: one verification read every chunk of the point, the first of
	// them then. ReadSince: verifications and samples together read every chunk
	// of it, the one that was read longest ago then.
	Verified, ReadSince uint64
}

// CheckedPack is when a pack was last read whole and found good.
type CheckedPack struct {
	ID ID
	At uint64
}

// Append writes the body of a record of checks behind b.
func (c Checks) Append(b []byte) []byte {
	b = le.AppendUint64(b, c.Sequence)
	b = le.AppendUint64(b, c.Begun)
	b = append(b, c.Scope[:]...)
	b = le.AppendUint64(b, c.Verified)
	b = le.AppendUint16(b, uint16(len(c.Speeds)))
	for _, s := range c.Speeds {
		b = le.AppendUint64(b, s.At)
		b = le.AppendUint64(b, s.BytesPerSecond)
	}
	b = le.AppendUint32(b, uint32(len(c.Points)))
	for _, p := range c.Points {
		b = append(b, p.ID[:]...)
		b = le.AppendUint64(b, p.Verified)
		b = le.AppendUint64(b, p.ReadSince)
	}
	b = le.AppendUint32(b, uint32(len(c.Packs)))
	for _, p := range c.Packs {
		b = append(b, p.ID[:]...)
		b = le.AppendUint64(b, p.At)
	}
	return b
}

// DecodeChecks reads the body of a record of checks.
func DecodeChecks(b []byte) (Checks, error) {
	r := reader{b: b}
	c := Checks{Sequence: r.u64(), Begun: r.u64()}
	r.bytes(c.Scope[:])
	c.Verified = r.u64()
	c.Speeds = make([]CheckSpeed, r.count(2, 16))
	for i := range c.Speeds {
		c.Speeds[i] = CheckSpeed{r.u64(), r.u64()}
	}
	c.Points = make([]CheckedPoint, r.count(4, 32))
	for i := range c.Points {
		p := &c.Points[i]
		r.bytes(p.ID[:])
		p.Verified, p.ReadSince = r.u64(), r.u64()
		if i > 0 && bytes.Compare(c.Points[i-1].ID[:], p.ID[:]) >= 0 {
			return c, corrupt("checked points that do not ascend")
		}
	}
	c.Packs = make([]CheckedPack, r.count(4, 40))
	for i := range c.Packs {
		p := &c.Packs[i]
		r.bytes(p.ID[:])
		p.At = r.u64()
		if i > 0 && bytes.Compare(c.Packs[i-1].ID[:], p.ID[:]) >= 0 {
			return c, corrupt("checked packs that do not ascend")
		}
	}
	if len(c.Speeds) > MaxCheckSpeeds || len(c.Points) > MaxCheckedPoints || len(c.Packs) > MaxCheckedPacks {
		return c, corrupt("a record of too many checks")
	}
	return c, r.end()
}
