"""The backend that runs run directories on HTCondor."""
