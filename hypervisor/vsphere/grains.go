package vsphere

import (
	"context"

	"golang.org/x/sync/errgroup"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/vsphere/vmdk"
)

const (
	// readSize is what is read of a source at once: several grains.
	readSize = 16 * vmdk.GrainBytes
	// readAhead is how many reads of one disk are in flight.
	readAhead = 8
	// askSize is how much of a disk's map is asked for at once.
	askSize = 1 << 30
)

// piece is one read of a source.
type piece struct {
	offset int64
	data   []byte
	done   chan error
}

// copyGrains reads what a disk holds and gives it out in grains, in ascending
// order. It reads ahead; the grain is valid during the call only.
func copyGrains(ctx context.Context, source hypervisor.DiskReader, emit func(offset int64, p []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group errgroup.Group
	queue := make(chan *piece, readAhead)
	spare := make(chan []byte, readAhead+1)
	for range cap(spare) {
		spare <- make([]byte, readSize)
	}
	group.Go(func() error {
		defer close(queue)
		return eachPiece(ctx, source, func(offset, length int64) error {
			p := &piece{offset: offset, done: make(chan error, 1)}
			select {
			case buffer := <-spare:
				p.data = buffer[:length]
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			go func() { p.done <- source.ReadAt(ctx, p.data, p.offset) }()
			select {
			case queue <- p:
				return nil
			case <-ctx.Done():
				<-p.done
				return context.Cause(ctx)
			}
		})
	})
	var failed error
	for p := range queue {
		err := <-p.done
		for at := 0; at < len(p.data) && err == nil && failed == nil; at += vmdk.GrainBytes {
			err = emit(p.offset+int64(at), p.data[at:min(at+vmdk.GrainBytes, len(p.data))])
		}
		if err != nil && failed == nil {
			failed = err
			// What is in flight is waited for: it reads from the caller's source.
			cancel(err)
		}
		spare <- p.data[:readSize]
	}
	if err := group.Wait(); failed == nil {
		failed = err
	}
	return failed
}

// eachPiece walks over what a disk holds in reads of whole grains, ascending,
// none twice.
func eachPiece(ctx context.Context, source hypervisor.DiskReader, read func(offset, length int64) error) error {
	size := source.SizeBytes()
	next := int64(0) // everything below is done
	for from := int64(0); from < size; from += askSize {
		runs, err := source.Extents(ctx, lifeboat.Extent{Offset: from, Length: min(askSize, size-from)})
		if err != nil {
			return err
		}
		for _, run := range runs {
			at := max(next, run.Offset/vmdk.GrainBytes*vmdk.GrainBytes)
			end := min(size, (run.End()+vmdk.GrainBytes-1)/vmdk.GrainBytes*vmdk.GrainBytes)
			for ; at < end; at = next {
				next = min(end, at+readSize)
				if err := read(at, next-at); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// heldBytes is how many bytes of a disk are more than holes: about what it takes on a
// datastore.
func heldBytes(ctx context.Context, source hypervisor.DiskReader) (int64, error) {
	total := int64(0)
	err := eachPiece(ctx, source, func(_, length int64) error {
		total += length
		return nil
	})
	return total, err
}
