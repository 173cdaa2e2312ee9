package vsphere

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/vsphere/vmdk"
)

// choose decides for each disk how it is read.
//
// Ranges read only what changed, so they are taken where the server knows what
// did since the drive's last point and lets the disk's file be read in parts. No
// real host of every kind has been seen to do that: where it does not, and for
// everything that has to be read whole, the disk comes as a stream, which is how
// VMware's own tools export machines.
func (s *still) choose(ctx context.Context) error {
	s.watch = &watch{ctx: s.ctx, look: s.looker()}
	if err := s.watch.stands(ctx); err != nil {
		return err
	}
	s.work.Go(s.heartbeat)
	s.work.Go(s.watchRoom)
	s.ways = s.readNotes(ctx)
	s.lease = &lease{s: s}
	for _, d := range s.f.disks() {
		sd, wanted := s.disks[d.Key]
		if !wanted {
			continue
		}
		if err := s.chooseFor(ctx, sd); err != nil {
			return err
		}
	}
	s.saveNotes(ctx)
	return nil
}

// chooseFor decides about one disk.
func (s *still) chooseFor(ctx context.Context, sd *stillDisk) error {
	change, why := base(s.options.Since[sd.d.Key], sd.mark)
	if sd.mark.change == "" && s.untracked != "" {
		why = s.untracked
	}
	method := s.options.Method
	possible := ""
	if method != MethodNFC {
		possible = s.tryRanges(ctx, sd, method == MethodRanges, change != "")
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	switch {
	case method == MethodRanges && sd.ranges == nil:
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s: its disk %s cannot be read in the way %q: %s", words(s.f.name()), sd.d.Key, MethodRanges, possible),
			Safe: words(s.f.name()) + " goes on as it is; its snapshot is removed again",
			Next: fmt.Sprintf("export it without --method, or with --method %s", MethodNFC),
			Err:  fmt.Errorf("%w: %w", hypervisor.ErrUnsupported, errWay),
		}
	case sd.ranges == nil:
		s.stream(sd)
		sd.why = why
		if change != "" {
			// All of it comes anyway, so all of it is compared.
			sd.why = whyStream
			if possible != "" {
				sd.why += " (" + possible + ")"
			}
		}
		return nil
	case change == "":
		sd.why = why
		return nil
	}
	return s.changes(ctx, sd, change)
}

// changes asks what changed in a disk that is read by ranges. A map that does not
// come, or makes no sense, means that everything is read.
func (s *still) changes(ctx context.Context, sd *stillDisk, since string) error {
	areas, err := sd.areas(ctx, since)
	switch {
	case err == nil:
		sd.changed, sd.ok = areas, true
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errMap):
		sd.why = words(err.Error())
	default:
		sd.why = whyAsked + ": " + words(err.Error())
	}
	if !sd.ok && s.options.Method == "" {
		sd.ranges = nil
		s.stream(sd)
	}
	return nil
}

// tryRanges prepares a disk to be read by ranges if the server lets its first
// block be read so, or says why not.
func (s *still) tryRanges(ctx context.Context, sd *stillDisk, forced, useful bool) (why string) {
	path, why := sd.flatFile()
	avoidStream := s.ways.NFC.skip() && !forced
	switch {
	case why != "":
		return why
	case !forced && !useful && !avoidStream:
		return ""
	case !forced && !avoidStream && s.ways.Ranges.skip():
		return "the host refused it before: " + s.ways.Ranges.Why
	}
	u, err := s.h.datastoreURL(ctx, s.c, s.f, path)
	if err != nil {
		return words(err.Error())
	}
	r := newRanges(s.h.get, u, sd.mark.size, sd.turn, s.watch.stands)
	if sd.mark.size > 0 {
		if err := r.readAt(ctx, make([]byte, min(512, sd.mark.size)), 0); err != nil {
			if ctx.Err() == nil && errors.Is(err, errWay) {
				s.avoid(MethodRanges, err)
			}
			return words(err.Error())
		}
	}
	sd.ranges = r
	return ""
}

// stream prepares a disk to be read as a stream.
func (s *still) stream(sd *stillDisk) {
	sd.forward = newForward(s.ctx, sd.mark.size, sd.turn, func(ctx context.Context) (grains, func(), error) {
		return s.lease.open(ctx, sd)
	})
	sd.forward.stands = s.watch.stands
}

// isWrongStream says that a stream came whole and cannot be used.
func isWrongStream(err error) bool {
	return errors.Is(err, vmdk.ErrOrder) || errors.Is(err, vmdk.ErrFormat)
}

// wayNotes are what is remembered of a machine's ways of reading.
type wayNotes struct {
	Ranges, NFC wayNote
}

// wayNote is that a way of reading failed.
type wayNote struct {
	Why string `json:",omitempty"`
	// Left is how many exports do not try it any more.
	Left int `json:",omitempty"`
}

func (n wayNote) skip() bool { return n.Left > 0 }

// avoidFor is how many exports a way of reading that failed is left out. Hosts
// are updated, and rights are given.
const avoidFor = 10

// waysNote is the name of the note.
const waysNote = "ways of reading"

// knownWays are the notes of this process, for hosts without others.
var knownWays = waysOfMachines{notes: map[string]wayNotes{}}

type waysOfMachines struct {
	mu    sync.Mutex
	notes map[string]wayNotes
}

func (w *waysOfMachines) get(s *still) wayNotes {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.notes[s.machineKey()]
}

func (w *waysOfMachines) set(s *still, n wayNotes) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes[s.machineKey()] = n
}

// readNotes returns what is remembered and counts this export.
func (s *still) readNotes(ctx context.Context) wayNotes {
	notes := knownWays.get(s)
	if s.h.o.Notes != nil {
		data, err := s.h.o.Notes.Note(ctx, s.f.hostID(), waysNote)
		if err != nil || data == nil || json.Unmarshal(data, &notes) != nil {
			// Losing them costs a try.
			notes = knownWays.get(s)
		}
	}
	return notes
}

// saveNotes keeps what is known of the ways after this export has counted.
func (s *still) saveNotes(ctx context.Context) {
	s.waysMu.Lock()
	defer s.waysMu.Unlock()
	for _, n := range []*wayNote{&s.ways.Ranges, &s.ways.NFC} {
		if n.Left > 0 {
			n.Left--
		}
		if n.Left == 0 {
			n.Why = ""
		}
	}
	s.keepNotes(ctx)
}

// avoid remembers that a way does not work for this machine.
func (s *still) avoid(way string, err error) {
	s.waysMu.Lock()
	defer s.waysMu.Unlock()
	note := wayNote{Why: words(err.Error()), Left: avoidFor + 1}
	if way == MethodRanges {
		s.ways.Ranges = note
	} else {
		s.ways.NFC = note
	}
	s.keepNotes(s.ctx)
}

// keepNotes stores them where the next export finds them. The caller holds s.waysMu.
func (s *still) keepNotes(ctx context.Context) {
	knownWays.set(s, s.ways)
	if s.h.o.Notes == nil {
		return
	}
	data, err := json.Marshal(s.ways)
	if err == nil {
		err = s.h.o.Notes.SetNote(context.WithoutCancel(ctx), s.f.hostID(), waysNote, data)
	}
	if err != nil {
		s.h.o.Note(s.f.name(), "what was learnt about reading this machine could not be kept: "+words(err.Error()))
	}
}
