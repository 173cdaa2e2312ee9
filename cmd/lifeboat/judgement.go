package main

import (
	"context"
	"time"

	"lifeboat/catalog"
	"lifeboat/rotation"
)

// judgement is what should happen now, and everything that it was made from.
type judgement struct {
	now      time.Time
	policy   rotation.Policy
	shelf    rotation.Shelf
	decision rotation.Decision
	// runbooks are what is due of them; they are among the reminders too.
	runbooks []string
}

// rotates says that the site has a rotation. Without one a judgement still has
// verdicts and exposure, and nothing of turns and steps.
func (j judgement) rotates() bool { return len(j.policy.Scheme.Sets) > 0 }

// policy is what people decided about their drives, from site.yaml. A computer
// without a site has the policy of one that decided nothing: all is kept. A
// section that cannot be read is a [lifeboat.Problem] with its line.
func (a *app) policy() (rotation.Policy, error) {
	site, err := a.siteOrNone()
	if err != nil {
		return rotation.Policy{}, err
	}
	if site == nil {
		return readRotation(nil)
	}
	policy, err := readRotation(&site.Rotation)
	if err != nil {
		return rotation.Policy{}, badSite(a.sitePath(), err.Error())
	}
	return policy, nil
}

// decide judges the drives as they are now: what is known of them, and which of
// them are attached.
func (a *app) decide(ctx context.Context, cat *catalog.Catalog) (judgement, error) {
	policy, err := a.policy()
	if err != nil {
		return judgement{}, err
	}
	shelf, err := a.shelf(ctx, cat)
	if err != nil {
		return judgement{}, err
	}
	now := a.now()
	return judgement{now: now, policy: policy, shelf: shelf, decision: rotation.Decide(now, policy, shelf)}, nil
}

// needCatalog opens the catalogue of a command that can do nothing without one.
func (a *app) needCatalog(ctx context.Context) (*catalog.Catalog, error) {
	if _, err := a.loadSite(); err != nil {
		return nil, err
	}
	return a.openCatalog(ctx)
}
