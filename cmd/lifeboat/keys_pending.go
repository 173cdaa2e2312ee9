package main

import (
	"context"

	"lifeboat/catalog"
)

// pendingKeys says how many changes of key slots each known drive lacks, by the
// drive's id; one that lacks none is left out.
func (a *app) pendingKeys(ctx context.Context, cat *catalog.Catalog) (map[string]int, error) {
	drives, err := cat.Drives(ctx)
	if err != nil {
		return nil, err
	}
	pending := map[string]int{}
	for _, d := range drives {
		changes, err := cat.PendingKeyChanges(ctx, d.ID)
		if err != nil {
			return nil, err
		}
		if len(changes) > 0 {
			pending[d.ID] = len(changes)
		}
	}
	return pending, nil
}
