"""Run directories on HTCondor."""
