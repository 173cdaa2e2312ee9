package hypervisor

import "context"

// Pauser is a [Host] whose machines can be made to stand still, so that a guest
// meets no error while something that it needs is short.
type Pauser interface {
	// Pause makes a machine stand that runs, and says whether it did. Any other
	// machine is left alone.
	Pause(ctx context.Context, machine string) (stood bool, err error)
	// Continue lets a machine go on that Pause made stand. One that runs, is off, or
	// stands because of an error is left alone.
	Continue(ctx context.Context, machine string) error
}
