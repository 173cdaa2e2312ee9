package vsphere

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

func TestAMachineWhoseMakingWasNotAnsweredIsFoundAndTakenAway(t *testing.T) {
	for name, lose := range map[string]func(s *vcenter.Server) func(soap.HasFault) bool{
		"the answer to the import": func(*vcenter.Server) func(soap.HasFault) bool {
			return func(answer soap.HasFault) bool {
				_, is := answer.(*methods.ImportVAppBody)
				return is
			}
		},
		"the lease, which cannot be ended either": func(s *vcenter.Server) func(soap.HasFault) bool {
			s.Fail(vcenter.Failure{Method: "HttpNfcLeaseAbort", Fault: &types.SystemError{Reason: "not now"}})
			imported := false
			return func(answer soap.HasFault) bool {
				if _, is := answer.(*methods.ImportVAppBody); is {
					imported = true
					return false
				}
				_, is := answer.(*methods.RetrievePropertiesExBody)
				lost := is && imported
				imported = imported && !lost // it is one that is lost
				return lost
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, h := served(t, vcenter.Options{})
			loseAnswers(t, h, lose(s))
			p := problem(t, h.Define(t.Context(), definition("web01")))
			if !strings.Contains(p.Safe, "nothing is left") {
				t.Errorf("%+v", p)
			}
			if _, err := h.find(t.Context(), "web01"); !errors.Is(err, hypervisor.ErrNoMachine) {
				t.Errorf("the half-made machine: %v", err)
			}
		})
	}
}

func TestAMachineThatCannotBeTakenAwayIsSaid(t *testing.T) {
	s, h := served(t, vcenter.Options{})
	loseAnswers(t, h, func(answer soap.HasFault) bool {
		_, is := answer.(*methods.ImportVAppBody)
		return is
	})
	s.Deny("VirtualMachine.Inventory.Delete")
	p := problem(t, h.Define(t.Context(), definition("web01")))
	if !strings.Contains(p.What, "half-made") || strings.Contains(p.Safe, "nothing is left") || !strings.Contains(p.Next, "delete web01") {
		t.Errorf("%+v", p)
	}
}
