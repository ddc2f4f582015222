"""What the provider and the protector of Azure Key Vault share: settings, logins, and how requests are made."""
