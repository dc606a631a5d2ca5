"""What can run a network: each module is one way, behind one interface (`base.Runtime`); `choice` picks one."""
