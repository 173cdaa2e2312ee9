package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// words is a text of the server for a person.
func words(text string) string { return hypervisor.GuestWords(text) }

// noConnection says why the host cannot be used at all. The caller has h.turn.
func (h *Host) noConnection(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p := &lifeboat.Problem{Safe: "nothing was done; the machines go on as they are", Err: err}
	var cert *certificateError
	switch {
	case errors.As(err, &cert):
		h.distrust(p, cert)
	case isInvalidLogin(err):
		p.What = fmt.Sprintf("host %s: the server does not take the password of %s", h.o.Name, h.o.User)
		p.Next = fmt.Sprintf("give the right one: lifeboat host password %s (a few wrong ones lock an account for some minutes)", h.o.Name)
		h.refused = p
	case isNoPermission(err):
		p.What = fmt.Sprintf("host %s: %s may not sign in", h.o.Name, h.o.User)
		p.Next = "give the user the role in docs/reference/vsphere-host.md; an ESXi in lockdown mode takes its exception users only"
	case neverSent(err):
		p.What = fmt.Sprintf("host %s: %s does not answer", h.o.Name, h.url.Host)
		p.Next = fmt.Sprintf("check the network and the name, then: lifeboat host check %s", h.o.Name)
	default:
		p.What = fmt.Sprintf("host %s: %s does not answer as a vCenter or an ESXi does", h.o.Name, h.url.Host)
		p.Next = fmt.Sprintf("check the URL of the host, then: lifeboat host check %s", h.o.Name)
	}
	return p
}

// distrust words what to do about a certificate.
func (h *Host) distrust(p *lifeboat.Problem, cert *certificateError) {
	again := fmt.Sprintf("lifeboat host trust %s --thumbprint %s", hypervisor.Printable(h.o.Name), cert.thumbprint)
	if cert.pinned {
		p.What = fmt.Sprintf("host %s: the certificate of %s is not the one that was pinned", h.o.Name, cert.server)
		p.Next = "it may be a new one, or somebody between: compare the thumbprint on the server itself; if it is " + cert.thumbprint + ", run: " + again
		return
	}
	p.What = fmt.Sprintf("host %s: the certificate of %s cannot be verified (%s)", h.o.Name, cert.server, why(cert.err))
	p.Next = "compare its thumbprint on the server itself; if it is " + cert.thumbprint + ", run: " + again
}

// why is an error of certificate checks in fewer words.
func why(err error) string {
	text := err.Error()
	text = strings.TrimPrefix(text, "x509: ")
	return words(text)
}

// explain turns an answer of the server to a call into something to act upon.
// What was being done is in what ("power on web01"); safe says what holds now.
func (h *Host) explain(what, safe string, err error) error {
	if err == nil {
		return nil
	}
	var known *lifeboat.Problem
	if errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	p := &lifeboat.Problem{What: fmt.Sprintf("host %s: %s", h.o.Name, what), Safe: safe, Err: err}
	var cert *certificateError
	switch {
	case errors.As(err, &cert):
		h.distrust(p, cert)
	case isInvalidLogin(err):
		p.Next = fmt.Sprintf("the password was changed meanwhile; give the new one: lifeboat host password %s", h.o.Name)
	case isReadOnly(err):
		p.Next = "the licence of this ESXi lets programs look but change nothing (the free one does); give it a licence with the vSphere API, or put it under a vCenter"
		p.Err = errors.Join(hypervisor.ErrUnsupported, err)
	case isNoPermission(err):
		p.Next = "give the user " + h.o.User + " " + lacking(err) + " (the whole role is in docs/reference/vsphere-host.md)"
	case isFull(err):
		p.Next = "make room on the datastore, or name another one for this host in site.yaml"
	case errors.Is(err, errStillAtIt):
		p.Safe += "; the server may still finish it"
		p.Next = "see the tasks on the server; when this one has ended, do the same again"
	case errors.Is(err, errTransferOver):
		p.Next = "do the same again; if the server ends it again, see its tasks and events"
	case isMissing(err):
		p.Next = "list the machines again: lifeboat machine list"
		p.Err = errors.Join(hypervisor.ErrMachineGone, err)
	case isBusy(err):
		p.Next = "the server is doing something else with it (a migration, another backup): try again when its task has ended"
		p.Err = errors.Join(hypervisor.ErrMachineBusy, err)
	default:
		p.Next = fmt.Sprintf("see the tasks and events on the server, then: lifeboat host check %s", h.o.Name)
	}
	return p
}

func isNoPermission(err error) bool { return fault.Is(err, &types.NoPermission{}) }

// lacking is the privilege that a refusal names.
func lacking(err error) string {
	var f *types.NoPermission
	if _, ok := fault.As(err, &f); ok && f.PrivilegeId != "" {
		return "the privilege " + words(f.PrivilegeId)
	}
	return "the role of Lifeboat"
}

// isReadOnly says that the licence forbids the call: the free ESXi answers so to
// everything that changes something.
func isReadOnly(err error) bool { return fault.Is(err, &types.RestrictedVersion{}) }

func isFull(err error) bool {
	return errors.Is(err, errFull) || fault.Is(err, &types.NoDiskSpace{}) || fault.Is(err, &types.InsufficientStorageSpace{})
}

func isMissing(err error) bool { return fault.Is(err, &types.ManagedObjectNotFound{}) }

func isBusy(err error) bool {
	return fault.Is(err, &types.TaskInProgress{}) || fault.Is(err, &types.ConcurrentAccess{}) ||
		fault.Is(err, &types.FileLocked{})
}
